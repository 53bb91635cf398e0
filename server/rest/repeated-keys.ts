/**
 * Finds a key that stands twice in one object of a JSON text. `JSON.parse` takes the last in silence: of
 * `"adapters":"a","adapters":""` it would leave a request to the base model.
 */

/** A key that stood before in the same object. */
export interface RepeatedKey {
  readonly key: string;
  /** Index of its second appearance in the text. */
  readonly at: number;
}

const MARK = /[{}"]/g;

/**
 * The first key that is repeated in its object; keys count as they are meant, whatever escapes spell them.
 * @param text valid JSON
 */
export function findRepeatedKey(text: string): RepeatedKey | undefined {
  const open: Set<string>[] = [];
  MARK.lastIndex = 0;
  for (let mark = MARK.exec(text); mark; mark = MARK.exec(text)) {
    const at = mark.index;
    if (mark[0] === '{') open.push(new Set());
    else if (mark[0] === '}') open.pop();
    else {
      const end = endOfString(text, at);
      MARK.lastIndex = end;
      if (!isFollowedByColon(text, end)) continue;
      const spelled = text.slice(at + 1, end - 1);
      const key = spelled.includes('\\') ? (JSON.parse(`"${spelled}"`) as string) : spelled;
      const keys = open.at(-1)!;
      if (keys.has(key)) return { key, at };
      keys.add(key);
    }
  }
  return undefined;
}

/** Index behind the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1);
  // A quote behind an odd number of backslashes belongs to the string.
  while (backslashesBefore(text, end) % 2 === 1) end = text.indexOf('"', end + 1);
  return end + 1;
}

function backslashesBefore(text: string, end: number): number {
  let at = end;
  while (text.charCodeAt(at - 1) === 0x5c) at--;
  return end - at;
}

function isFollowedByColon(text: string, end: number): boolean {
  let at = end;
  // JSON's space is nothing above a blank, and no valid text has other characters below it outside of strings.
  while (text.charCodeAt(at) <= 0x20) at++;
  return text.charCodeAt(at) === 0x3a;
}
