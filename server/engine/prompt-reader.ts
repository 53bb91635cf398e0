/** Reads prompts: chunks of one row, or several whole short ones in one step. A row that is read joins the batch. */
import { type RowStore, StoreLost } from './backend.js';
import type { LoopState } from './loop-state.js';
import type { StepOutput } from './messages.js';
import { inBlocks } from './placement.js';
import type { Prefill } from './prefills.js';
import { mostScored } from './prompt-logprobs.js';
import type { Row } from './row.js';
import { rowLogits } from './row-logits.js';
import type { RowOutcomes } from './row-outcomes.js';

/** The prompts of one loop. */
export class PromptReader {
  readonly #state: LoopState;
  readonly #outcomes: RowOutcomes;

  constructor(state: LoopState, outcomes: RowOutcomes) {
    this.#state = state;
    this.#outcomes = outcomes;
  }

  /** Begins to read rows: several, whose short prompts are read whole, or one, of which the next `tokens` tokens are. */
  async start(rows: readonly Row[], tokens: number, output: StepOutput): Promise<void> {
    if (rows.length > 1) return this.#readTogether(rows, output);
    const { prefixes, prefills, counts } = this.#state;
    const [row] = rows;
    const store = this.#createStore(1, inBlocks(row!.tokens));
    // The last prompt token is always computed: its logits give the first token.
    const reusable = row!.scores ? 0 : row!.tokens - (row!.resumes ? 0 : 1);
    row!.length = prefixes.restore(row!, reusable, store, 0);
    if (row!.preemptions === 0) row!.cachedTokens = row!.length;
    counts.cachedTokens += row!.length;
    await this.#read(prefills.add(row!, store), tokens, output);
  }

  /** Reads whole short prompts of one selection in one step. */
  async #readTogether(rows: readonly Row[], output: StepOutput): Promise<void> {
    const { backend, batch, prefills, service, counts } = this.#state;
    const longest = Math.max(...rows.map((row) => row.tokens));
    // Rows that go on are copied to the batch, so the store never grows.
    const store = this.#createStore(rows.length, longest);
    const start = performance.now();
    try {
      const slots = rows.map((row) => ({ ids: row.request.promptIds, horizon: row.totalTokens }));
      const logits = await backend.prefillTogether!(slots, store, rows[0]!.spanAt(0).adapter);
      service.worked(rows, performance.now() - start);
      counts.prefillSteps += 1;
      for (const [slot, row] of rows.entries()) {
        row.length = row.tokens;
        counts.prefillTokens += row.length;
        const own = rowLogits(backend, logits, slot, row.adapter);
        if (!this.#outcomes.pick(row, () => row.sampler.pick(own), output)) continue;
        const elsewhere = prefills.positions + store.slots * store.capacity;
        if (batch.add(row, store, slot, elsewhere) === 'full') this.#outcomes.waitAgain(row);
      }
    } catch (error) {
      if (error instanceof StoreLost) for (const row of rows) this.#outcomes.waitAgain(row);
      else this.#outcomes.fail(rows, error, output);
    }
    store.release();
  }

  /** Reads the next `tokens` tokens of the row that was started last. */
  async goOn(tokens: number, output: StepOutput): Promise<void> {
    await this.#read(this.#state.prefills.current!, tokens, output);
  }

  /** Runs the next chunk of a row; with its last one the row gets its first token and joins the batch. */
  async #read(prefill: Prefill, tokens: number, output: StepOutput): Promise<void> {
    const { prefixes, prefills, selections } = this.#state;
    const { row, store } = prefill;
    try {
      let logits: Float32Array | undefined;
      if (row.tokensLeft > 0) logits = await this.#runChunk(prefill, tokens, output);
      if (row.tokensLeft > 0) return;
      prefixes.insert(row, row.length, store, 0, selections.loaded);
      if (row.resumes || this.#outcomes.pick(row, () => row.sampler.pick(logits!), output)) this.#join(prefill);
      else prefills.drop(prefill);
    } catch (error) {
      if (error instanceof StoreLost) return;
      prefills.drop(prefill);
      this.#outcomes.fail([row], error, output);
    }
  }

  /** Reads up to `tokens` tokens of the row; returns the logits of the last one. */
  async #runChunk({ row, store }: Prefill, tokens: number, output: StepOutput): Promise<Float32Array> {
    const { backend, costs, service, counts } = this.#state;
    // A chunk never crosses the point where an activated adapter begins.
    const { adapter, until } = row.spanAt(row.length);
    const { vocabSize } = backend.spec;
    const most = row.scores ? Math.min(tokens, mostScored(vocabSize)) : tokens;
    const end = Math.min(row.length + most, row.tokens, until);
    const ids = row.ids(row.length, end);
    const start = performance.now();
    const last = end === row.tokens && !row.resumes ? [ids.length - 1] : [];
    const wanted = row.scores ? [...ids.keys()] : last;
    const computed = await backend.prefill(ids, row.length, store, adapter, wanted, row.totalTokens);
    const logits = rowLogits(backend, computed, 0, adapter, Math.max(1, wanted.length));
    const ms = performance.now() - start;
    costs.prefilled(ids.length, ms);
    service.worked([row], ms);
    if (row.scores) output.prompts.push(row.promptScorer!.score(row.id, row.length, ids.length, logits));
    row.length = end;
    counts.prefillSteps += 1;
    counts.prefillTokens += ids.length;
    return logits.subarray(-(adapter.vocabulary?.size ?? vocabSize));
  }

  /** The row decodes from now on. */
  #join(prefill: Prefill): void {
    const { batch, prefills } = this.#state;
    const { row, store } = prefill;
    const outcome = batch.add(row, store, 0, prefills.positions);
    prefills.leave(prefill);
    if (outcome !== 'adopted') store.release();
    if (outcome === 'full') this.#outcomes.waitAgain(row);
  }

  /** A store for rows that are to be read; the batch gives up its slack if it must. */
  #createStore(slots: number, positions: number): RowStore {
    const { backend, batch, prefills } = this.#state;
    batch.yieldTo(prefills.positions + slots * positions);
    return backend.createStore(slots, positions);
  }
}
