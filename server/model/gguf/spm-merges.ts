/**
 * The merges of a SentencePiece BPE vocabulary. Such a vocabulary has scores and no list of merges: the best-scored
 * token that two neighbours make together is merged first. So each token gives one merge for every way to cut it in two,
 * and all of them are ordered by the score of what they make.
 */

/** A token that merging can make. */
export interface ScoredToken {
  readonly id: number;
  readonly text: string;
  readonly score: number;
}

/** Merges, best first. */
export function mergesByScore(tokens: readonly ScoredToken[]): [string, string][] {
  const ids = new Map(tokens.map(({ text, id }) => [text, id]));
  // A character without a token may still be merged; alone it falls back to bytes.
  const idOf = (part: string, isCharacter: boolean) => ids.get(part) ?? (isCharacter ? Number.POSITIVE_INFINITY : -1);
  const ordered = [...tokens].sort((x, y) => y.score - x.score || x.id - y.id);
  const merges: [string, string][] = [];
  for (const { text } of ordered) {
    const cuts: { left: string; right: string; leftId: number; rightId: number }[] = [];
    const characters = [...text];
    let left = '';
    for (let i = 1; i < characters.length; i += 1) {
      left += characters[i - 1]!;
      const right = text.slice(left.length);
      const leftId = idOf(left, i === 1);
      const rightId = idOf(right, i === characters.length - 1);
      if (leftId >= 0 && rightId >= 0) cuts.push({ left, right, leftId, rightId });
    }
    cuts.sort((x, y) => x.leftId - y.leftId || x.rightId - y.rightId);
    for (const cut of cuts) merges.push([cut.left, cut.right]);
  }
  return merges;
}
