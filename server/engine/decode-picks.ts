/** The picks of a decode step: of the next token of every row of a group, or of several tokens of a row by itself. */
import type { StepBackend } from './backend.js';
import type { DecodeGroup } from './decode-batch.js';
import { LogNorms } from './log-norms.js';
import type { LookUp } from './look-up.js';
import type { Row } from './row.js';
import { rowLogits } from './row-logits.js';
import type { Picked } from './sampler.js';
import { StepWeights } from './step-weights.js';

/**
 * How a row's sampler picks from the `at`-th logits of a step, which it must do before the next one: `at` is its slot, or
 * the number of its guesses before. Picking throws as {@link RowSampler.pick}.
 */
export type PickOf = (row: Row, at: number) => () => Picked;

/** Runs the decode steps of a loop. */
export class DecodePicks {
  readonly #backend: StepBackend;
  readonly #lookUp: LookUp;
  readonly #logNorms = new LogNorms();
  readonly #stepWeights = new StepWeights();

  constructor(backend: StepBackend, lookUp: LookUp) {
    this.#backend = backend;
    this.#lookUp = lookUp;
  }

  /**
   * Runs a step. Throws as the backend does.
   * @param guesses what the group's only row may go on with; empty = one token for each row
   */
  async run({ slots, store }: DecodeGroup, guesses: readonly number[]): Promise<PickOf> {
    const backend = this.#backend;
    const inSlots = slots.map((row) => row?.decodeSlot);
    const guessed = guesses.length > 0;
    if (!guessed && backend.decodeGreedy !== undefined && slots.every(takesLargest)) {
      const { ids, logits, logprobs } = await backend.decodeGreedy(inSlots, store);
      return (row, at) => () => row.sampler.takeLargest(ids[at]!, logits[at]!, logprobs[at]!);
    }
    const logits = guessed ? await this.#lookUp.run(slots[0]!, guesses, store) : await backend.decode(inSlots, store);
    const asked = slots.some((row) => row?.request.sampling.logprobs !== undefined);
    const norms = asked ? await this.#logNorms.of(logits, backend.spec.vocabSize) : undefined;
    const draws = slots.some((row) => row !== undefined && drawsAt(row) !== undefined) && !guessed;
    const temperatures = slots.map((row) => (row && drawsAt(row)) ?? 1);
    const weights = draws ? await this.#stepWeights.of(logits, temperatures) : undefined;
    return (row, at) => () => {
      const own = rowLogits(backend, logits, at, row.adapter);
      // An adapter with a vocabulary of its own has other logits to sum.
      if (row.adapter.vocabulary !== undefined) return row.sampler.pick(own);
      const { vocabSize } = backend.spec;
      const drawn = drawsAt(row) === undefined ? undefined : weights?.subarray(at * vocabSize, (at + 1) * vocabSize);
      return row.sampler.pick(own, norms?.[at], drawn);
    };
  }
}

/** The temperature at which the row draws from the base's tokens; undefined = it does not, or not from all of them. */
function drawsAt({ sampler, adapter }: Row): number | undefined {
  return adapter.vocabulary === undefined ? sampler.drawsAt : undefined;
}

/** Rows with a vocabulary of their own may find the largest logit beyond the base's. */
function takesLargest(row: Row | undefined): boolean {
  return row === undefined || (row.sampler.takesLargest && row.adapter.vocabulary === undefined);
}
