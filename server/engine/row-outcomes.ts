/** What becomes of a row after a step: it goes on with another token, waits again, or ends. */
import type { LoopState } from './loop-state.js';
import type { EndEvent, StepOutput } from './messages.js';
import type { Row } from './row.js';
import type { Picked } from './sampler.js';

/** Settles the rows of one loop. */
export class RowOutcomes {
  readonly #state: Pick<LoopState, 'waiting' | 'batch' | 'selections' | 'service' | 'counts'>;

  constructor(state: LoopState) {
    this.#state = state;
  }

  /** Samples the row's next token; false when the row has ended with it. */
  pick(row: Row, pick: () => Picked, output: StepOutput): boolean {
    let end: EndEvent | undefined;
    try {
      const picked = pick();
      const cause = row.accept(picked.token);
      output.tokens.push({ id: row.id, ...picked });
      if (cause !== undefined) end = row.end(cause);
    } catch (error) {
      end = row.fail(error);
    }
    if (end === undefined) return true;
    this.finish(row, end, output);
    return false;
  }

  /** The row has lost its memory; it is computed again with the tokens that it has. */
  waitAgain(row: Row): void {
    row.preempt();
    this.#state.counts.preemptions += 1;
    this.#state.waiting.putBack(row);
  }

  /** Ends those of a failed step's rows that had not ended. */
  fail(rows: readonly (Row | undefined)[], error: unknown, output: StepOutput): void {
    for (const row of rows) {
      if (row === undefined || output.ends.some(({ id }) => id === row.id)) continue;
      this.#state.batch.remove(row);
      this.finish(row, row.fail(error), output);
    }
  }

  /** The row has ended, and is nowhere any more. */
  finish(row: Row, event: EndEvent, output: StepOutput): void {
    const { service, selections } = this.#state;
    if (row.servedMs > 0) service.ended(row.servedMs);
    selections.release(row.spans);
    output.ends.push(event);
  }
}
