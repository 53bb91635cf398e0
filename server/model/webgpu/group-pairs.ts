/** An adapter's low-rank pairs as the GPU's graph takes them: one pair for each group of linears. */
import type { LinearGroup } from './linear-groups.js';

/** One linear's part of an adapter. */
export interface LinearPair {
  readonly rank: number;
  /** [rank, in] */
  readonly a: Float32Array;
  /** [rank, out], scaling included. */
  readonly b: Float32Array;
  /** See BoundLinear; a linear of an activated adapter may have a pair of each kind. */
  readonly always?: boolean | undefined;
}

/** Ranks that follow each other in a pair of a group. */
export interface RankSpan {
  readonly rank: number;
  /** False: of an activated adapter these wait for its invocation. */
  readonly always: boolean;
}

/** A group's pair: a is [rank, in], b is [rank, out]. */
export interface GroupPair {
  readonly rank: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
  /** All ranks, in order. */
  readonly spans: readonly RankSpan[];
}

/**
 * The pair of a group: A matrices below each other, B block by block on the diagonal, so that a rank reaches the columns
 * of its own linear only. Rank is the sum of the linears' ranks; undefined if no linear is adapted.
 */
export function groupPair(
  group: LinearGroup,
  pairsOf: (module: string) => readonly LinearPair[],
): GroupPair | undefined {
  const pairs = group.linears.map(({ module }) => pairsOf(module));
  const all = pairs.flat();
  const rank = all.reduce((sum, pair) => sum + pair.rank, 0);
  if (rank === 0) return undefined;
  const spans = all.map((pair) => ({ rank: pair.rank, always: pair.always === true }));
  if (group.linears.length === 1 && all.length === 1) return { rank, a: all[0]!.a, b: all[0]!.b, spans };
  const a = new Float32Array(rank * group.inFeatures);
  const b = new Float32Array(rank * group.outFeatures);
  let row = 0;
  let column = 0;
  for (const [i, { outFeatures }] of group.linears.entries()) {
    for (const pair of pairs[i]!) {
      a.set(pair.a.subarray(0, pair.rank * group.inFeatures), row * group.inFeatures);
      for (let r = 0; r < pair.rank; r += 1) {
        const values = pair.b.subarray(r * outFeatures, (r + 1) * outFeatures);
        b.set(values, (row + r) * group.outFeatures + column);
      }
      row += pair.rank;
    }
    column += outFeatures;
  }
  return { rank, a, b, spans };
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
