/**
 * Which rows decode side by side. Every slot of a group is fed, and costs memory, as long as the group's longest row; a
 * further group costs a further reading of the weights in each step. So rows of much different lengths are kept apart
 * where that is cheaper. Pure arithmetic on lengths: the scheduler reckons with it what the batch will do.
 */

/** Positions are allocated and fed in multiples of this. */
export const BLOCK = 32;

/** Positions per reading of the weights where rows are never kept apart. */
export const NEVER_APART = 2 ** 40;

/** Positions rounded up to whole blocks; at least one block. */
export function inBlocks(positions: number): number {
  return Math.max(1, Math.ceil(positions / BLOCK)) * BLOCK;
}

/** Slots of a group for a number of rows: a few sizes, so that rows that come and go rarely move the others. */
export function slotsFor(rows: number): number {
  for (const size of [1, 2, 4, 6, 8, 12, 16]) if (rows <= size) return size;
  return Math.ceil(rows / 8) * 8;
}

/** Lengths of a group's rows: the positions that each holds. */
export type GroupLengths = readonly number[];

/** Positions that a group needs for one more token of each row, without any slack. */
export function positionsOf(lengths: GroupLengths): number {
  return lengths.length === 0 ? 0 : lengths.length * inBlocks(longestOf(lengths) + 1);
}

/** Longest of the lengths; 0 without any. */
export function longestOf(lengths: GroupLengths): number {
  return lengths.reduce((most, length) => Math.max(most, length), 0);
}

/**
 * What a decode step of a group costs, in positions read: its slots times its longest row, and the weights.
 * @param stepPositions cached positions whose reading takes as long as reading the weights once
 */
function costOf(lengths: GroupLengths, stepPositions: number): number {
  return lengths.length === 0 ? 0 : slotsFor(lengths.length) * inBlocks(longestOf(lengths)) + stepPositions;
}

/** Where a row goes: the index of a group, or the number of groups for a new one. */
export interface Placement {
  readonly group: number;
  /** Positions that this takes beyond what the groups need already. */
  readonly positions: number;
}

/**
 * The cheapest place for a row of `length` positions among those that need at most `room` more positions; undefined when
 * there is none. Where the costs are equal an existing group is taken.
 */
export function placeRow(
  groups: readonly GroupLengths[],
  length: number,
  stepPositions: number,
  room: number,
): Placement | undefined {
  let best: Placement | undefined;
  let bestCost = Number.POSITIVE_INFINITY;
  for (let group = 0; group <= groups.length; group += 1) {
    const before = groups[group] ?? [];
    const joined = [...before, length];
    const positions = positionsOf(joined) - positionsOf(before);
    const cost = costOf(joined, stepPositions) - costOf(before, stepPositions);
    if (positions <= room && cost < bestCost) {
      best = { group, positions };
      bestCost = cost;
    }
  }
  return best;
}

/**
 * Two groups whose union is cheaper by a tenth than they are apart. The first one must find `room` for all while the
 * second is still there.
 */
export function mergeable(
  groups: readonly GroupLengths[],
  stepPositions: number,
  room: number,
): readonly [number, number] | undefined {
  for (let first = 0; first < groups.length; first += 1) {
    for (let second = first + 1; second < groups.length; second += 1) {
      const [a, b] = [groups[first]!, groups[second]!];
      const union = [...a, ...b];
      if (positionsOf(union) - positionsOf(a) > room) continue;
      const apart = costOf(a, stepPositions) + costOf(b, stepPositions);
      if (costOf(union, stepPositions) < 0.9 * apart) return [first, second];
    }
  }
  return undefined;
}
