/** An adapter's low-rank pairs as the GPU's graph takes them: one pair for each group of linears. */
import type { LinearGroup } from './linear-groups.js';

/** One linear's part of an adapter. */
export interface LinearPair {
  readonly rank: number;
  /** [rank, in] */
  readonly a: Float32Array;
  /** [rank, out], scaling included. */
  readonly b: Float32Array;
}

/**
 * The pair of a group: A matrices below each other, B block by block on the diagonal, so that a rank reaches the columns
 * of its own linear only. Rank is the sum of the linears' ranks; undefined if no linear is adapted.
 */
export function groupPair(
  group: LinearGroup,
  pairOf: (module: string) => LinearPair | undefined,
): LinearPair | undefined {
  const pairs = group.linears.map(({ module }) => pairOf(module));
  const rank = pairs.reduce((sum, pair) => sum + (pair?.rank ?? 0), 0);
  if (rank === 0) return undefined;
  if (group.linears.length === 1) return pairs[0];
  const a = new Float32Array(rank * group.inFeatures);
  const b = new Float32Array(rank * group.outFeatures);
  let row = 0;
  let column = 0;
  for (const [i, { outFeatures }] of group.linears.entries()) {
    const pair = pairs[i];
    if (pair !== undefined) {
      a.set(pair.a.subarray(0, pair.rank * group.inFeatures), row * group.inFeatures);
      for (let r = 0; r < pair.rank; r += 1) {
        const values = pair.b.subarray(r * outFeatures, (r + 1) * outFeatures);
        b.set(values, (row + r) * group.outFeatures + column);
      }
      row += pair.rank;
    }
    column += outFeatures;
  }
  return { rank, a, b };
}

/** Elements that an adapter's pairs take on the device. */
export function pairElements(groups: readonly LinearGroup[], rankOf: (module: string) => number): number {
  let elements = 0;
  for (const { linears, inFeatures, outFeatures } of groups) {
    const rank = linears.reduce((sum, { module }) => sum + rankOf(module), 0);
    elements += rank * (inFeatures + outFeatures);
  }
  return elements;
}
