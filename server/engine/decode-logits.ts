/** The logits of a decode step: of the next token of every row of a group, or of several tokens of a row by itself. */
import type { StepBackend } from './backend.js';
import type { DecodeGroup } from './decode-batch.js';
import { LogNorms } from './log-norms.js';
import type { LookUp } from './look-up.js';
import type { Row } from './row.js';
import { rowLogits } from './row-logits.js';

/** What a row's sampler needs for one token. */
export interface TokenLogits {
  /** [ids that the row's adapter knows], valid until the next step. */
  readonly logits: Float32Array;
  /** ln(sum(exp(logits))); absent = not known. */
  readonly norm: number | undefined;
}

/** Reads the `at`-th logits of a step for a row: `at` is its slot, or the number of its guesses before. */
export type LogitsOf = (row: Row, at: number) => TokenLogits;

/** Runs the decode steps of a loop. */
export class DecodeLogits {
  readonly #backend: StepBackend;
  readonly #lookUp: LookUp;
  readonly #logNorms = new LogNorms();

  constructor(backend: StepBackend, lookUp: LookUp) {
    this.#backend = backend;
    this.#lookUp = lookUp;
  }

  /**
   * Runs a step. Throws as the backend does.
   * @param guesses what the group's only row may go on with; empty = one token for each row
   */
  async run({ slots, store }: DecodeGroup, guesses: readonly number[]): Promise<LogitsOf> {
    const backend = this.#backend;
    const inSlots = slots.map((row) => row?.decodeSlot);
    const guessed = guesses.length > 0;
    const logits = guessed ? await this.#lookUp.run(slots[0]!, guesses, store) : await backend.decode(inSlots, store);
    const asked = slots.some((row) => row?.request.sampling.logprobs !== undefined);
    const norms = asked ? await this.#logNorms.of(logits, backend.spec.vocabSize) : undefined;
    return (row, at) => ({
      logits: rowLogits(backend, logits, at, row.adapter),
      // An adapter with a vocabulary of its own has other logits to sum.
      norm: row.adapter.vocabulary === undefined ? norms?.[at] : undefined,
    });
  }
}
