/** The rows that are being read, each in a store of its own. */
import type { RowStore } from './backend.js';
import type { Row } from './row.js';

/** A row that is being read. */
export interface Prefill {
  readonly row: Row;
  readonly store: RowStore;
}

/** All rows that are being read. */
export class Prefills {
  #all: Prefill[] = [];

  /** In the order of their starts. */
  get all(): readonly Prefill[] {
    return this.#all;
  }

  get rows(): Row[] {
    return this.#all.map(({ row }) => row);
  }

  /** The one that was started last, which is worked on. */
  get current(): Prefill | undefined {
    return this.#all.at(-1);
  }

  /** Positions of all stores. */
  get positions(): number {
    return this.#all.reduce((sum, { store }) => sum + store.slots * store.capacity, 0);
  }

  /** Bytes of all stores. */
  get bytes(): number {
    return this.#all.reduce((sum, { store }) => sum + store.bytes, 0);
  }

  add(row: Row, store: RowStore): Prefill {
    const prefill = { row, store };
    this.#all.push(prefill);
    return prefill;
  }

  /** Takes one out, whose store somebody else has now. */
  leave(prefill: Prefill): void {
    this.#all = this.#all.filter((other) => other !== prefill);
  }

  /** Takes one out and gives its memory back. */
  drop(prefill: Prefill): void {
    this.leave(prefill);
    prefill.store.release();
  }

  /** Does so with all for which `gone` holds. @returns their rows */
  dropAll(gone: (prefill: Prefill) => boolean): Row[] {
    const dropped = this.#all.filter(gone);
    for (const prefill of dropped) this.drop(prefill);
    return dropped.map(({ row }) => row);
  }
}
