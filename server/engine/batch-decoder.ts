/** Decode steps: one token for every row of the batch, or, for a row by itself, as many as it guessed rightly. */
import { StoreLost } from './backend.js';
import type { DecodeGroup } from './decode-batch.js';
import { DecodePicks, type PickOf } from './decode-picks.js';
import { LookUp } from './look-up.js';
import type { LoopState } from './loop-state.js';
import type { StepOutput } from './messages.js';
import type { Row } from './row.js';
import type { RowOutcomes } from './row-outcomes.js';

/** The batch of one loop. */
export class BatchDecoder {
  readonly #state: LoopState;
  readonly #outcomes: RowOutcomes;
  readonly #lookUp: LookUp;
  readonly #picks: DecodePicks;

  /** @param lookupTokens most guessed tokens of a step; 0 = none */
  constructor(state: LoopState, outcomes: RowOutcomes, lookupTokens: number) {
    this.#state = state;
    this.#outcomes = outcomes;
    this.#lookUp = new LookUp(state.backend, lookupTokens, state.counts);
    this.#picks = new DecodePicks(state.backend, this.#lookUp);
  }

  /** Runs a step of every group. */
  async step(output: StepOutput): Promise<void> {
    const { batch, prefills, waiting, costs, service, counts } = this.#state;
    const start = performance.now();
    batch.prepare(prefills.positions, waiting.rows.length > 0);
    const { rows, groups } = batch;
    const others = prefills.rows.length + waiting.rows.length;
    const guesses = this.#lookUp.guesses(others === 0 ? groups : []);
    let whole = true;
    for (const group of [...groups]) whole = (await this.#decodeGroup(group, guesses, output)) && whole;
    counts.decodeSteps += 1;
    // The time of one that failed is that of opening a device anew.
    if (!whole) return;
    const ms = performance.now() - start;
    // A step with guesses says nothing of what one token of every row costs.
    if (guesses.length === 0) costs.decoded(ms);
    service.worked(rows, ms);
  }

  /**
   * @param guesses of the group's only row; empty = one token for each row
   * @returns false where nothing was computed
   */
  async #decodeGroup(group: DecodeGroup, guesses: readonly number[], output: StepOutput): Promise<boolean> {
    const { slots, store } = group;
    if (store.broken === 'lost') return false; // With a device that failed under another group.
    let pickOf: PickOf;
    try {
      pickOf = await this.#picks.run(group, guesses);
    } catch (error) {
      if (!(error instanceof StoreLost)) this.#outcomes.fail(slots, error, output);
      return false;
    }
    for (const [slot, row] of [...slots.entries()]) {
      if (row === undefined) continue;
      let [taken, goesOn] = [0, true];
      // The logits after a guess are those of the row as long as it picks what was guessed.
      for (; goesOn && (taken === 0 || guesses[taken - 1] === row.lastToken); taken += 1) {
        row.length += 1;
        goesOn = this.#outcomes.pick(row, pickOf(row, slot + taken), output);
      }
      this.#state.counts.decodeTokens += taken;
      if (guesses.length > 0) this.#lookUp.told(row, guesses.length, taken - 1);
      if (!goesOn) this.leave(row, group);
    }
    return true;
  }

  /** Takes a row out of the batch; the prefix cache keeps what it can of it. */
  leave(row: Row, { slots, store }: DecodeGroup): void {
    const { batch, prefixes, selections } = this.#state;
    prefixes.insert(row, row.length, store, slots.indexOf(row), selections.loaded);
    batch.remove(row);
  }
}
