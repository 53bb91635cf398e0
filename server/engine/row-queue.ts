/** Rows that wait for their first step, or for another one after a preemption, in the order of arrival. */
import { countStart } from './queue-order.js';
import type { Row } from './row.js';

/** The waiting rows. */
export class RowQueue {
  #rows: Row[] = [];
  #arrivals = 0;

  get rows(): readonly Row[] {
    return this.#rows;
  }

  /** Adds a row that is made with its place in the order of arrival. */
  add(make: (arrival: number) => Row): void {
    this.#rows.push(make(this.#arrivals));
    this.#arrivals += 1;
  }

  /** Takes rows out to start them, and counts that in those that go on waiting. */
  take(ids: readonly number[]): Row[] {
    const rows = ids.map((id) => this.#rows.find((row) => row.id === id)!);
    this.#rows = this.#rows.filter((row) => !rows.includes(row));
    for (const row of rows) countStart(row, this.#rows);
    return rows;
  }

  /** Puts a row that was taken back to its place. */
  putBack(row: Row): void {
    const later = this.#rows.findIndex(({ arrival }) => arrival > row.arrival);
    this.#rows.splice(later < 0 ? this.#rows.length : later, 0, row);
  }

  /** Takes out the rows for which `gone` holds, for good. */
  drop(gone: (row: Row) => boolean): Row[] {
    const dropped = this.#rows.filter(gone);
    this.#rows = this.#rows.filter((row) => !gone(row));
    return dropped;
  }
}
