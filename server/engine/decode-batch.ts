/** The rows that decode together, and the key/value store whose slots they own. */
import type { RowStore, StepBackend } from './backend.js';
import type { Row } from './row.js';
import { slotsFor } from './scheduler.js';

/** Positions a new store has beyond what its rows need at once. */
const HEADROOM = 64;

export class DecodeBatch {
  readonly #backend: Pick<StepBackend, 'createStore'>;
  #slots: (Row | undefined)[] = [];
  #store: RowStore | undefined;

  /** @param backend where the batch's stores are made */
  constructor(backend: Pick<StepBackend, 'createStore'>) {
    this.#backend = backend;
  }

  /** By slot; undefined = free. */
  get slots(): readonly (Row | undefined)[] {
    return this.#slots;
  }

  /** Rows in slot order. */
  get rows(): Row[] {
    return this.#slots.filter((row) => row !== undefined);
  }

  /** Throws when the batch is empty. */
  get store(): RowStore {
    if (this.#store === undefined) throw new Error('the decode batch is empty');
    return this.#store;
  }

  get bytes(): number {
    return this.#store?.bytes ?? 0;
  }

  /** Takes over a prefilled row: its keys and values are copied from its own store, which stays the caller's. */
  add(row: Row, prefilled: RowStore): void {
    let slot = this.#slots.indexOf(undefined);
    if (slot < 0) {
      slot = this.#slots.length;
      this.#resize(slotsFor(slot + 1), row.length);
    }
    const store = this.store;
    store.reserve(row.length + 1);
    prefilled.copyStretch({ slot: 0, from: 0, count: row.length }, store, slot, 0);
    this.#slots[slot] = row;
  }

  /** Frees the row's slot. The last row's store goes with it. */
  remove(row: Row): void {
    const slot = this.#slots.indexOf(row);
    if (slot < 0) return;
    this.#slots[slot] = undefined;
    if (this.#slots.every((other) => other === undefined)) {
      this.#slots = [];
      this.#store?.release();
      this.#store = undefined;
    }
  }

  /** Gives slots back when half of them or more are free; called when no row waits to take them. */
  compact(): void {
    const { rows } = this;
    if (rows.length > 0 && slotsFor(rows.length) * 2 <= this.#slots.length) this.#resize(slotsFor(rows.length), 0);
  }

  /** Moves all rows to a store of `slots` slots with room for the longest of them and for `length` positions. */
  #resize(slots: number, length: number): void {
    const old = this.#store;
    const longest = this.rows.reduce((most, row) => Math.max(most, row.length), length);
    const store = this.#backend.createStore(slots, longest + HEADROOM);
    const moved: (Row | undefined)[] = new Array(slots).fill(undefined);
    let next = 0;
    for (const [slot, row] of this.#slots.entries()) {
      if (row === undefined) continue;
      old!.copyStretch({ slot, from: 0, count: row.length }, store, next, 0);
      moved[next] = row;
      next += 1;
    }
    old?.release();
    this.#slots = moved;
    this.#store = store;
  }
}
