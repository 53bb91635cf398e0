/**
 * Names of registered adapters: 1 to 128 characters of any script, `/` and spaces inside included (names like
 * `org/adapter` are common). Not allowed are control characters, line separators, broken surrogates, white space at
 * the ends, and the names `.` and `..`, which clients take out of URLs. Names are compared exactly, as NFC.
 */

const MAX_CHARACTERS = 128;
/** Most names suggested. */
const MAX_NEAR = 3;

/** The name in its one form (NFC), or what is wrong with it. */
export function checkAdapterName(name: string): { readonly name: string } | { readonly wrong: string } {
  const normal = name.normalize('NFC');
  const length = Array.from(normal).length;
  if (length === 0) return { wrong: 'is empty; 1 to 128 characters would be right' };
  if (length > MAX_CHARACTERS) return { wrong: `has ${length} characters; at most ${MAX_CHARACTERS} would be right` };
  if (/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(normal)) return { wrong: 'holds a control character or a line break' };
  if (normal.trim() !== normal) return { wrong: 'begins or ends with white space' };
  if (normal === '.' || normal === '..') return { wrong: 'is "." or "..", which URLs cannot hold' };
  return { name: normal };
}

/** Edits (insert, delete, replace, swap of neighbours) from one text to the other; more than `limit` is limit + 1. */
function editDistance(from: string, to: string, limit: number): number {
  if (Math.abs(from.length - to.length) > limit) return limit + 1;
  let before: number[] = [];
  let last = Array.from({ length: to.length + 1 }, (_, i) => i);
  for (let i = 1; i <= from.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= to.length; j += 1) {
      const same = from[i - 1] === to[j - 1] ? 0 : 1;
      let best = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + same);
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]) {
        best = Math.min(best, before[j - 2]! + 1);
      }
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[to.length]!;
}

/** Up to three known names that were probably meant, nearest first. */
export function nearNames(name: string, known: Iterable<string>): string[] {
  const wanted = name.toLowerCase();
  const limit = Math.max(1, Math.min(4, Math.ceil(wanted.length / 3)));
  const scored: (readonly [number, string])[] = [];
  for (const one of known) {
    const other = one.toLowerCase();
    let distance = editDistance(wanted, other, limit);
    if (distance > limit && wanted.length >= 3 && (other.startsWith(wanted) || wanted.startsWith(other)))
      distance = limit;
    if (distance <= limit) scored.push([distance, one]);
  }
  scored.sort((x, y) => x[0] - y[0] || (x[1] < y[1] ? -1 : 1));
  return scored.slice(0, MAX_NEAR).map(([, one]) => one);
}
