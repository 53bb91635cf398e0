/** The rows that the engine thread has or is about to get, and who hears of them on the main thread. */
import type { EngineRow, RowListener } from './engine.js';
import type { EndEvent, RowRequest, StepOutput } from './messages.js';
import { clock, refusal } from './row.js';

/** Listeners by the number of their row. */
export class RowsInFlight {
  readonly #listeners = new Map<number, RowListener>();
  #nextId = 1;

  get size(): number {
    return this.#listeners.size;
  }

  get ids(): number[] {
    return [...this.#listeners.keys()];
  }

  has(id: number): boolean {
    return this.#listeners.has(id);
  }

  /** Numbers and stamps rows; `listeners[i]` hears of `rows[i]` from now on. */
  add(rows: readonly EngineRow[], listeners: readonly RowListener[]): RowRequest[] {
    const submittedAt = clock();
    const requests = rows.map((row) => ({ ...row, id: this.#nextId++, submittedAt }));
    for (const [i, { id }] of requests.entries()) this.#listeners.set(id, listeners[i]!);
    return requests;
  }

  /** Passes a step's events on, those of each row in order. */
  tell({ prompts, tokens, ends }: StepOutput): void {
    for (const event of prompts) this.#listeners.get(event.id)?.prompt?.(event);
    for (const event of tokens) this.#listeners.get(event.id)?.token(event);
    for (const event of ends) {
      const listener = this.#listeners.get(event.id);
      this.#listeners.delete(event.id);
      listener?.end(event);
    }
  }

  /** All rows have ended so. Rows that a listener submits meanwhile are not among them. */
  endAll(failure: Error, cause: EndEvent['cause']): void {
    const rows = [...this.#listeners];
    this.#listeners.clear();
    for (const [id, listener] of rows) listener.end({ ...refusal(id, failure), cause });
  }
}
