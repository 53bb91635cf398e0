/**
 * Where the rows of a batch lie, so that those of one selection share products (row-groups.ts): a selection's low-rank
 * weights are then read once a group instead of once a row. Pure arithmetic; see docs/decisions/0029.
 */
import type { Row } from './row.js';
import { lowRankBytes } from './row-adapter.js';
import { rowGroups } from './row-groups.js';

/** A moved row's bytes are read and written twice, a few hundred at a time. */
const MOVING = 4;
/** The weights of groups that change are read and written to where the step reads them. */
const FILLING = 2;

/** Rows that lie side by side in the next steps. */
type Ordered = Pick<Row, 'key' | 'adapter' | 'length' | 'totalTokens'>;

/**
 * The same rows in as few groups of one selection as their numbers allow, with as few of them moved as a greedy choice
 * finds.
 * @param slots rows by slot; undefined = free
 * @returns rows by slot, as many slots
 */
export function arrange<R extends { readonly key: string }>(slots: readonly (R | undefined)[]): (R | undefined)[] {
  const byKey = new Map<string, R[]>();
  for (const row of slots) {
    if (row === undefined) continue;
    const known = byKey.get(row.key);
    if (known === undefined) byKey.set(row.key, [row]);
    else known.push(row);
  }
  const members = largestGroups(slots.length, [...byKey.values()]);
  if (members === 1) return [...slots];
  const arranged = new Array<R | undefined>(slots.length).fill(undefined);
  for (const [key, starts] of placesOf(slots, byKey, members)) {
    const own = starts.flatMap((start) => Array.from({ length: members }, (_, i) => start + i));
    const staying = own.filter((slot) => slots[slot]?.key === key);
    for (const slot of staying) arranged[slot] = slots[slot];
    const moving = byKey.get(key)!.filter((row) => !staying.some((slot) => slots[slot] === row));
    const free = own.filter((slot) => arranged[slot] === undefined);
    for (const [i, row] of moving.entries()) arranged[free[i]!] = row;
  }
  return arranged;
}

/** The most slots in a group of equal groups that hold one selection each. */
function largestGroups(slots: number, selections: readonly (readonly unknown[])[]): number {
  for (let members = slots; members > 1; members -= 1) {
    if (slots % members !== 0) continue;
    const needed = selections.reduce((sum, rows) => sum + Math.ceil(rows.length / members), 0);
    if (needed <= slots / members) return members;
  }
  return 1;
}

/** First slots of each selection's groups, those first in which most of its rows lie already. */
function placesOf<R extends { readonly key: string }>(
  slots: readonly (R | undefined)[],
  byKey: ReadonlyMap<string, readonly R[]>,
  members: number,
): Map<string, number[]> {
  const choices = [...byKey.keys()].flatMap((key) =>
    Array.from({ length: slots.length / members }, (_, group) => {
      const start = group * members;
      const there = slots.slice(start, start + members).filter((row) => row?.key === key).length;
      return { key, start, there };
    }),
  );
  choices.sort((x, y) => y.there - x.there);
  const taken = new Set<number>();
  const places = new Map<string, number[]>([...byKey.keys()].map((key) => [key, []]));
  for (const { key, start } of choices) {
    const own = places.get(key)!;
    if (taken.has(start) || own.length === Math.ceil(byKey.get(key)!.length / members)) continue;
    taken.add(start);
    own.push(start);
  }
  return places;
}

/** The free slot in which the row leaves the fewest groups; there must be one. */
export function bestFree<R extends { readonly key: string }>(slots: readonly (R | undefined)[], row: R): number {
  let best = -1;
  let fewest = Number.POSITIVE_INFINITY;
  for (const [slot, other] of slots.entries()) {
    if (other !== undefined) continue;
    const groups = rowGroups(slots.with(slot, row)).length;
    if (groups >= fewest) continue;
    best = slot;
    fewest = groups;
  }
  return best;
}

/**
 * A better order of a decode group's rows, if moving them is repaid before the first of them must end.
 * @param positionBytes bytes of a position's keys and values
 * @returns rows by slot; undefined = they stay
 */
export function betterOrder<R extends Ordered>(
  slots: readonly (R | undefined)[],
  positionBytes: number,
): (R | undefined)[] | undefined {
  const rows = slots.filter((row) => row !== undefined);
  // Gains, biases and norms are given by slot, and so are low-rank weights beside them.
  if (rows.some(({ adapter }) => adapter.needsFullGraph)) return undefined;
  const order = arrange(slots);
  const groups = rowGroups(order).length;
  const saved = rowGroups(slots).length - groups;
  if (saved <= 0) return undefined;
  // Weights lie as wide as the widest selection's.
  const widest = rows.reduce((most, { adapter }) => Math.max(most, lowRankBytes(adapter)), 0);
  const steps = rows.reduce((least, { totalTokens, length }) => Math.min(least, totalTokens - length), Infinity);
  const moved = order.reduce((sum, row, slot) => (row === slots[slot] ? sum : sum + (row?.length ?? 0)), 0);
  const price = MOVING * moved * positionBytes + FILLING * groups * widest;
  return saved * widest * steps > price ? order : undefined;
}
