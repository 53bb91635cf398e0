/** The picks of a decode step: of the next token of every row of a group, or of several tokens of a row by itself. */
import type { StepBackend } from './backend.js';
import type { DecodeGroup } from './decode-batch.js';
import { LogNorms } from './log-norms.js';
import type { LookUp } from './look-up.js';
import type { Row } from './row.js';
import { rowLogits } from './row-logits.js';
import type { KnownOfLogits, Picked } from './sampler.js';
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
    // Each logit row's own row.
    const rows = guessed ? [slots[0], ...guesses.map(() => slots[0])] : slots;
    const known = await this.#knownOf(rows, logits);
    return (row, at) => () => row.sampler.pick(rowLogits(backend, logits, at, row.adapter), known(at));
  }

  /**
   * What can be known of a step's logits for less than each row's sampler takes for it.
   * @param rows by logit row; undefined = a free slot's
   */
  async #knownOf(rows: readonly (Row | undefined)[], logits: Float32Array): Promise<(at: number) => KnownOfLogits> {
    const { largest, spec } = this.#backend;
    const asked = rows.some((row) => row?.request.sampling.logprobs !== undefined);
    const norms = asked && largest === undefined ? await this.#logNorms.of(logits, spec.vocabSize) : undefined;
    const normOf = (at: number) => (largest === undefined ? norms?.[at] : largest.logits[at]! - largest.logprobs[at]!);
    const temperatures = rows.map((row) => row && drawsAt(row));
    const drawing = temperatures.some((temperature) => temperature !== undefined);
    const someTemperatures = temperatures.map((temperature) => temperature ?? 1);
    const weights = drawing ? await this.#stepWeights.of(logits, someTemperatures) : undefined;
    return (at) => {
      // An adapter with a vocabulary of its own has other logits to look at.
      if (rows[at]?.adapter.vocabulary !== undefined) return {};
      const own = temperatures[at] === undefined ? undefined : weights;
      const probabilities = own?.subarray(at * spec.vocabSize, (at + 1) * spec.vocabSize);
      return { largest: largest?.ids[at], norm: normOf(at), probabilities };
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
