/** The rows that decode, in groups of similar length, and the stores whose slots they own. */
import type { RowStore, StepBackend } from './backend.js';
import { inBlocks, longestOf, mergeable, NEVER_APART, placeRow, positionsOf, slotsFor } from './placement.js';
import type { Row } from './row.js';
import { arrange, bestFree, betterOrder } from './row-order.js';

/** Bounds of the batch, asked for whenever they count; see `SchedulerLimits`. */
export interface BatchLimits {
  readonly maxPositions: number;
  readonly stepPositions?: number | undefined;
}

/** Rows side by side in one store. */
export interface DecodeGroup {
  /** By slot; undefined = free. */
  readonly slots: readonly (Row | undefined)[];
  readonly store: RowStore;
}

interface Group {
  slots: (Row | undefined)[];
  readonly store: RowStore;
  /** Positions that the store is growing to, part by part; 0 = it is not. */
  growing: number;
  /** True while rows have come or gone and nobody has looked whether the others should move. */
  changed: boolean;
}

/** Stores grow by this factor, or by this many positions, where there is room, so that growing is rare. */
const GROWTH = 1.25;
const LEAST_GROWTH = 96;
/** They begin to grow this many steps before they must, a part each step: copying all at once would be felt. */
const AHEAD = 64;
/** Positions that a reshaped store has beyond what its rows need at once. */
const HEADROOM = 32;

/** The rows that decode, in groups, and their stores. */
export class DecodeBatch {
  readonly #backend: Pick<StepBackend, 'createStore' | 'spec' | 'positionBytes'>;
  readonly #limits: BatchLimits;
  #groups: Group[] = [];
  /** Of the layers' keys and values, so many that all are done in time. */
  readonly #partsPerStep: number;
  /** True while rows have left since the groups were last looked at. */
  #thinned = false;

  /** @param backend where the batch's stores are made */
  constructor(backend: Pick<StepBackend, 'createStore' | 'spec' | 'positionBytes'>, limits: BatchLimits) {
    this.#backend = backend;
    this.#partsPerStep = Math.ceil((2 * backend.spec.layers.length) / (AHEAD / 2));
    this.#limits = limits;
  }

  get #maxPositions(): number {
    return this.#limits.maxPositions;
  }

  get #stepPositions(): number {
    return this.#limits.stepPositions ?? NEVER_APART;
  }

  get groups(): readonly DecodeGroup[] {
    return this.#groups;
  }

  /** The rows of each group in slot order. */
  get rowsByGroup(): Row[][] {
    return this.#groups.map(rowsOf);
  }

  /** All rows. */
  get rows(): Row[] {
    return this.#groups.flatMap(rowsOf);
  }

  get bytes(): number {
    return this.#groups.reduce((sum, { store }) => sum + store.bytes, 0);
  }

  /**
   * Takes over a prefilled row. A new group takes the row's own store where it can; else the row is copied.
   * @param elsewhere positions of stores outside the batch, the row's own included
   * @returns 'adopted': the store is the batch's now; 'copied': it is still the caller's; 'full': nothing was done
   */
  add(row: Row, store: RowStore, slot: number, elsewhere: number): 'adopted' | 'copied' | 'full' {
    const lengths = this.#groups.map(lengthsOf);
    const needed = lengths.reduce((sum, group) => sum + positionsOf(group), elsewhere);
    const place = placeRow(lengths, row.length, this.#stepPositions, this.#maxPositions - needed);
    const chosen = place === undefined ? undefined : this.#groups[place.group];
    if (chosen === undefined && store.slots === 1) {
      this.#groups.push(groupOf([row], store));
      return 'adopted';
    }
    if (place === undefined) return 'full';
    const group = chosen ?? groupOf([], this.#backend.createStore(1, inBlocks(row.length + 1)));
    if (chosen === undefined) this.#groups.push(group);
    const target = this.#freeSlot(group, row, elsewhere);
    store.copyStretch({ slot, from: 0, count: row.length }, group.store, target, 0);
    group.slots[target] = row;
    group.changed = true;
    return 'copied';
  }

  /** Frees the row's slot. The last row's store goes with it. */
  remove(row: Row): void {
    for (const group of this.#groups) {
      const slot = group.slots.indexOf(row);
      if (slot < 0) continue;
      group.slots[slot] = undefined;
      group.changed = true;
      this.#thinned = true;
      if (rowsOf(group).length > 0) return;
      group.store.release();
      this.#groups = this.#groups.filter((other) => other !== group);
      return;
    }
  }

  /**
   * Makes room for the next token of every row, and puts groups together that have become cheap to join.
   * @param elsewhere positions of stores outside the batch
   * @param expecting true while rows wait that may take free slots soon
   */
  prepare(elsewhere: number, expecting: boolean): void {
    if (this.#thinned && !expecting) this.#compact();
    if (this.#thinned) this.#merge(elsewhere);
    this.#thinned = this.#thinned && expecting;
    for (const group of this.#groups) {
      this.#grow(group, elsewhere);
      // Rows that are being read will join soon; all are looked at together then.
      if (group.changed && elsewhere === 0) this.#order(group);
    }
  }

  /** Puts rows of one selection side by side where that is repaid. */
  #order(group: Group): void {
    const { slots, store } = group;
    group.changed = false;
    if (store.reorder === undefined) return;
    const order = betterOrder(slots, this.#backend.positionBytes);
    if (order === undefined) return;
    store.reorder(sourcesOf(order, slots), longestOf(lengthsOf(group)));
    group.slots = order;
  }

  #grow(group: Group, elsewhere: number): void {
    const { store } = group;
    const need = longestOf(lengthsOf(group)) + 1;
    if (need + AHEAD <= store.capacity) return;
    if (group.growing === 0) {
      const wanted = inBlocks(Math.max(need, store.capacity * GROWTH, store.capacity + LEAST_GROWTH));
      if (this.#fits(elsewhere, group, group.slots.length, wanted)) group.growing = wanted;
    }
    if (need <= store.capacity) {
      if (group.growing > 0) store.reserveAhead?.(group.growing, this.#partsPerStep);
    } else if (group.growing >= need) {
      store.reserve(group.growing);
    } else {
      this.#tighten();
      store.reserve(inBlocks(need));
    }
    if (store.capacity >= group.growing) group.growing = 0;
  }

  /** Gives back what no row needs for its next token, if stores of `elsewhere` positions would not fit beside it. */
  yieldTo(elsewhere: number): void {
    const held = this.#groups.reduce((sum, group) => sum + heldBy(group), elsewhere);
    if (held > this.#maxPositions) this.#tighten();
  }

  /** A free slot for the row with room for its positions and one more token, next to its like where there is one. */
  #freeSlot(group: Group, row: Row, elsewhere: number): number {
    const rows = rowsOf(group).length;
    const capacity = inBlocks(Math.max(longestOf(lengthsOf(group)), row.length) + 1);
    const held = Math.max(capacity, group.store.capacity, group.growing);
    if (rows < group.slots.length && this.#fits(elsewhere, group, group.slots.length, held)) {
      group.store.reserve(capacity);
      return bestFree(group.slots, row);
    }
    const slots = slotsFor(rows + 1);
    if (this.#fits(elsewhere, group, slots, capacity + HEADROOM)) reshape(group, slots, capacity + HEADROOM);
    else {
      this.#tighten();
      reshape(group, rows + 1, capacity);
    }
    return bestFree(group.slots, row);
  }

  /** True when everything stays within the budget with a group of that shape. */
  #fits(elsewhere: number, group: Group, slots: number, capacity: number): boolean {
    const others = this.#groups.reduce((sum, other) => (other === group ? sum : sum + heldBy(other)), elsewhere);
    return others + slots * capacity <= this.#maxPositions;
  }

  /** Gives back everything that no row needs for its next token. */
  #tighten(): void {
    for (const group of this.#groups) {
      const rows = rowsOf(group).length;
      const capacity = inBlocks(longestOf(lengthsOf(group)) + 1);
      if (rows < group.slots.length || capacity < group.store.capacity || group.growing > 0)
        reshape(group, rows, capacity);
    }
  }

  /** Gives slots back when half of a group's or more are free. */
  #compact(): void {
    for (const group of this.#groups) {
      const rows = rowsOf(group).length;
      const slots = slotsFor(rows);
      if (slots * 2 > group.slots.length) continue;
      reshape(group, slots, inBlocks(longestOf(lengthsOf(group)) + 1));
    }
  }

  #merge(elsewhere: number): void {
    for (;;) {
      const lengths = this.#groups.map(lengthsOf);
      const needed = lengths.reduce((sum, group) => sum + positionsOf(group), elsewhere);
      const pair = mergeable(lengths, this.#stepPositions, this.#maxPositions - needed);
      if (pair === undefined) return;
      const [first, second] = [this.#groups[pair[0]]!, this.#groups[pair[1]]!];
      for (const [slot, row] of second.slots.entries()) {
        if (row === undefined) continue;
        const target = this.#freeSlot(first, row, elsewhere);
        // Making a free slot may have moved the rows of the second group, too.
        const from = second.slots[slot] === row ? slot : second.slots.indexOf(row);
        second.store.copyStretch({ slot: from, from: 0, count: row.length }, first.store, target, 0);
        first.slots[target] = row;
      }
      second.store.release();
      this.#groups = this.#groups.filter((group) => group !== second);
    }
  }
}

function groupOf(slots: (Row | undefined)[], store: RowStore): Group {
  return { slots, store, growing: 0, changed: true };
}

/** By slot of the new order: where its row lies now. */
function sourcesOf(order: readonly (Row | undefined)[], slots: readonly (Row | undefined)[]): (number | undefined)[] {
  return order.map((row) => (row === undefined ? undefined : slots.indexOf(row)));
}

function rowsOf({ slots }: DecodeGroup): Row[] {
  return slots.filter((row) => row !== undefined);
}

function lengthsOf(group: DecodeGroup): number[] {
  return rowsOf(group).map(({ length }) => length);
}

function heldBy({ store, growing }: Group): number {
  return store.slots * Math.max(store.capacity, growing);
}

/** Another shape of a group's store; the rows move to its first slots, or where those of one selection lie side by side. */
function reshape(group: Group, slots: number, capacity: number): void {
  const rows = rowsOf(group);
  const order = arrange(Array.from({ length: slots }, (_, slot) => rows[slot]));
  group.store.reshape(slots, capacity, sourcesOf(order, group.slots), longestOf(lengthsOf(group)));
  group.slots = order;
  group.growing = 0;
}
