/**
 * The engine proper: rows come in, steps run, tokens go out. It lives in the worker, but knows nothing of threads: tests
 * drive it directly. One `step()` at a time; what a step produced is returned in one piece.
 */
import type { BoundAdapter } from '../adapters/types.js';
import { checkPositions, positionsFault } from './admission.js';
import { type RowStore, type StepBackend, StoreLost } from './backend.js';
import { DecodeBatch, type DecodeGroup } from './decode-batch.js';
import { DecodePicks, type PickOf } from './decode-picks.js';
import { EngineCounts } from './engine-counts.js';
import { LookUp } from './look-up.js';
import type { EndEvent, EngineStats, RowRequest, StepOutput } from './messages.js';
import { BLOCK, inBlocks } from './placement.js';
import { type Prefill, Prefills } from './prefills.js';
import { PrefixCache } from './prefix-cache.js';
import { mostScored } from './prompt-logprobs.js';
import { Row, refusal } from './row.js';
import { selects } from './row-adapter.js';
import { rowLogits } from './row-logits.js';
import { RowQueue } from './row-queue.js';
import type { Picked } from './sampler.js';
import { decide, type SchedulerLimits } from './scheduler.js';
import { Selections } from './selections.js';
import { ServiceLedger } from './service-ledger.js';
import { StepCosts } from './step-costs.js';

/** Bounds of a loop, asked for whenever they count: those in positions may change with where the backend runs. */
export interface LoopLimits extends SchedulerLimits {
  /** Bytes of the prefix cache; absent or 0 = none. */
  readonly prefixBytes?: number | undefined;
  /** Most guessed tokens of a step of a row that decodes alone; absent or 0 = none. */
  readonly lookupTokens?: number | undefined;
}

/** Rows in, tokens out: the loop of one engine thread. */
export class EngineLoop {
  readonly #backend: StepBackend;
  readonly #limits: LoopLimits;
  readonly #adapters = new Map<string, BoundAdapter>();
  readonly #selections = new Selections(this.#adapters);
  readonly #prefixes: PrefixCache;
  #costs = new StepCosts();
  readonly #service = new ServiceLedger();
  readonly #waiting = new RowQueue();
  readonly #prefills = new Prefills();
  readonly #batch: DecodeBatch;
  readonly #cancelled = new Set<number>();
  readonly #lookUp: LookUp;
  readonly #decodePicks: DecodePicks;
  #readSinceDecode = 0;
  readonly #counts = new EngineCounts();
  /** Where the backend ran when it was last looked at. */
  #place: StepBackend['place'];

  constructor(backend: StepBackend, limits: LoopLimits) {
    this.#backend = backend;
    this.#limits = limits;
    this.#place = backend.place;
    this.#batch = new DecodeBatch(backend, limits);
    this.#lookUp = new LookUp(backend, limits.lookupTokens ?? 0, this.#counts);
    this.#decodePicks = new DecodePicks(backend, this.#lookUp);
    this.#prefixes = new PrefixCache(() => backend.createStore(1, BLOCK), limits.prefixBytes ?? 0);
  }

  /** True while any row waits or runs. */
  get busy(): boolean {
    return this.#waiting.rows.length > 0 || this.#prefills.current !== undefined || this.#batch.groups.length > 0;
  }

  /** Takes a loaded adapter. Throws when the backend cannot apply it. */
  async load(adapter: BoundAdapter): Promise<void> {
    await this.#backend.load(adapter);
    this.#adapters.set(adapter.digest, adapter);
  }

  /** A loaded adapter. */
  adapter(digest: string): BoundAdapter | undefined {
    return this.#adapters.get(digest);
  }

  /** Forgets an adapter and the prefixes read with it. A row that still uses it keeps its weights alive until it ends. */
  unload(digest: string): void {
    this.#adapters.delete(digest);
    this.#prefixes.drop((key) => selects(key, digest));
    this.#backend.unload(digest);
  }

  /** Enqueues a row. A row that names an adapter that is not loaded ends with an error: never the base instead. */
  submit(request: RowRequest): EndEvent | undefined {
    try {
      checkPositions([request], this.#limits.maxPositions);
      const spans = this.#selections.spans(request);
      this.#waiting.add((arrival) => new Row(request, spans, this.#backend.spec.ropes, arrival));
      return undefined;
    } catch (error) {
      return refusal(request.id, error);
    }
  }

  /** Ends rows before the next step. */
  cancel(ids: readonly number[]): void {
    for (const id of ids) this.#cancelled.add(id);
  }

  /** Runs one step, if there is anything to do. */
  async step(): Promise<StepOutput> {
    const output: StepOutput = { prompts: [], tokens: [], ends: [] };
    this.#applyCancels(output);
    this.#leaveLost(output);
    if (this.#backend.place !== this.#place) this.#settle(output);
    const start = performance.now();
    let decision = this.#decide();
    for (; decision.kind === 'preempt'; decision = this.#decide()) this.#preempt(decision.id);
    if (decision.kind === 'decode') {
      await this.#decode(output);
      this.#readSinceDecode = 0;
    } else if (decision.kind !== 'idle') {
      const read = this.#counts.prefillTokens;
      if (decision.kind === 'prefill') await this.#prefill(this.#prefills.current!, decision.tokens, output);
      else await this.#start(decision.ids, decision.tokens, output);
      this.#readSinceDecode += Math.max(1, this.#counts.prefillTokens - read);
    }
    this.#counts.stepMs += performance.now() - start;
    return output;
  }

  stats(): EngineStats {
    const held = {
      runningRows: this.#batch.rows.length + this.#prefills.rows.length,
      waitingRows: this.#waiting.rows.length,
      kvBytes: this.#prefills.bytes + this.#batch.bytes,
      prefixBytes: this.#prefixes.bytes,
    };
    return this.#counts.stats(held, this.#adapters, this.#backend.runMs, this.#backend.restarts);
  }

  #decide(): ReturnType<typeof decide> {
    const joins = this.#backend.prefillTogether !== undefined;
    return decide(
      {
        waiting: this.#waiting.rows,
        prefilling: this.#prefills.rows,
        groups: this.#batch.rowsByGroup,
        readSinceDecode: this.#readSinceDecode,
        costs: this.#costs,
        service: this.#service,
      },
      joins ? { maxJoined: this.#limits.maxBatch, ...this.#limits } : this.#limits,
    );
  }

  /** Takes rows from the queue. */
  #take(ids: readonly number[]): Row[] {
    const rows = this.#waiting.take(ids);
    for (const row of this.#prefills.rows) row.overtaken += 1;
    for (const row of rows) row.start();
    return rows;
  }

  /** A store for rows that are to be read; the batch gives up its slack if it must. */
  #createStore(slots: number, positions: number): RowStore {
    this.#batch.yieldTo(this.#prefills.positions + slots * positions);
    return this.#backend.createStore(slots, positions);
  }

  async #start(ids: readonly number[], tokens: number, output: StepOutput): Promise<void> {
    const rows = this.#take(ids);
    if (rows.length > 1) return this.#prefillTogether(rows, output);
    const [row] = rows;
    const store = this.#createStore(1, inBlocks(row!.tokens));
    // The last prompt token is always computed: its logits give the first token.
    const reusable = row!.scores ? 0 : row!.tokens - (row!.resumes ? 0 : 1);
    row!.length = this.#prefixes.restore(row!, reusable, store, 0);
    if (row!.preemptions === 0) row!.cachedTokens = row!.length;
    this.#counts.cachedTokens += row!.length;
    await this.#prefill(this.#prefills.add(row!, store), tokens, output);
  }

  /** Reads whole short prompts of one selection in one step. */
  async #prefillTogether(rows: readonly Row[], output: StepOutput): Promise<void> {
    const longest = Math.max(...rows.map((row) => row.tokens));
    // Rows that go on are copied to the batch, so the store never grows.
    const store = this.#createStore(rows.length, longest);
    const start = performance.now();
    try {
      const slots = rows.map((row) => ({ ids: row.request.promptIds, horizon: row.totalTokens }));
      const logits = await this.#backend.prefillTogether!(slots, store, rows[0]!.spanAt(0).adapter);
      this.#service.worked(rows, performance.now() - start);
      this.#counts.prefillSteps += 1;
      for (const [slot, row] of rows.entries()) {
        row.length = row.tokens;
        this.#counts.prefillTokens += row.length;
        const own = rowLogits(this.#backend, logits, slot, row.adapter);
        if (!this.#pick(row, () => row.sampler.pick(own), output)) continue;
        const elsewhere = this.#prefills.positions + store.slots * store.capacity;
        if (this.#batch.add(row, store, slot, elsewhere) === 'full') this.#waitAgain(row);
      }
    } catch (error) {
      if (error instanceof StoreLost) for (const row of rows) this.#waitAgain(row);
      else this.#fail(rows, error, output);
    }
    store.release();
  }

  /** Runs the next chunk of a row; with its last one the row gets its first token and joins the batch. */
  async #prefill(prefill: Prefill, tokens: number, output: StepOutput): Promise<void> {
    const { row, store } = prefill;
    try {
      let logits: Float32Array | undefined;
      if (row.tokensLeft > 0) logits = await this.#runChunk(prefill, tokens, output);
      if (row.tokensLeft > 0) return;
      this.#prefixes.insert(row, row.length, store, 0, this.#selections.loaded);
      if (row.resumes || this.#pick(row, () => row.sampler.pick(logits!), output)) this.#join(prefill);
      else this.#prefills.drop(prefill);
    } catch (error) {
      if (error instanceof StoreLost) return;
      this.#prefills.drop(prefill);
      this.#fail([row], error, output);
    }
  }

  /** Reads up to `tokens` tokens of the row; returns the logits of the last one. */
  async #runChunk({ row, store }: Prefill, tokens: number, output: StepOutput): Promise<Float32Array> {
    // A chunk never crosses the point where an activated adapter begins.
    const { adapter, until } = row.spanAt(row.length);
    const { vocabSize } = this.#backend.spec;
    const most = row.scores ? Math.min(tokens, mostScored(vocabSize)) : tokens;
    const end = Math.min(row.length + most, row.tokens, until);
    const ids = row.ids(row.length, end);
    const start = performance.now();
    const last = end === row.tokens && !row.resumes ? [ids.length - 1] : [];
    const wanted = row.scores ? [...ids.keys()] : last;
    const computed = await this.#backend.prefill(ids, row.length, store, adapter, wanted, row.totalTokens);
    const logits = rowLogits(this.#backend, computed, 0, adapter, Math.max(1, wanted.length));
    const ms = performance.now() - start;
    this.#costs.prefilled(ids.length, ms);
    this.#service.worked([row], ms);
    if (row.scores) output.prompts.push(row.promptScorer!.score(row.id, row.length, ids.length, logits));
    row.length = end;
    this.#counts.prefillSteps += 1;
    this.#counts.prefillTokens += ids.length;
    return logits.subarray(-(adapter.vocabulary?.size ?? vocabSize));
  }

  /** The row decodes from now on. */
  #join(prefill: Prefill): void {
    const { row, store } = prefill;
    const outcome = this.#batch.add(row, store, 0, this.#prefills.positions);
    this.#prefills.leave(prefill);
    if (outcome !== 'adopted') store.release();
    if (outcome === 'full') this.#waitAgain(row);
  }

  async #decode(output: StepOutput): Promise<void> {
    const start = performance.now();
    this.#batch.prepare(this.#prefills.positions, this.#waiting.rows.length > 0);
    const { rows, groups } = this.#batch;
    const others = this.#prefills.rows.length + this.#waiting.rows.length;
    const guesses = this.#lookUp.guesses(others === 0 ? groups : []);
    let whole = true;
    for (const group of [...groups]) whole = (await this.#decodeGroup(group, guesses, output)) && whole;
    this.#counts.decodeSteps += 1;
    // The time of one that failed is that of opening a device anew.
    if (!whole) return;
    const ms = performance.now() - start;
    // A step with guesses says nothing of what one token of every row costs.
    if (guesses.length === 0) this.#costs.decoded(ms);
    this.#service.worked(rows, ms);
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
      pickOf = await this.#decodePicks.run(group, guesses);
    } catch (error) {
      if (!(error instanceof StoreLost)) this.#fail(slots, error, output);
      return false;
    }
    for (const [slot, row] of [...slots.entries()]) {
      if (row === undefined) continue;
      let [taken, goesOn] = [0, true];
      // The logits after a guess are those of the row as long as it picks what was guessed.
      for (; goesOn && (taken === 0 || guesses[taken - 1] === row.lastToken); taken += 1) {
        row.length += 1;
        goesOn = this.#pick(row, pickOf(row, slot + taken), output);
      }
      this.#counts.decodeTokens += taken;
      if (guesses.length > 0) this.#lookUp.told(row, guesses.length, taken - 1);
      if (!goesOn) this.#leave(row, group);
    }
    return true;
  }

  /** Takes a row out of the batch; the prefix cache keeps what it can of it. */
  #leave(row: Row, { slots, store }: DecodeGroup): void {
    this.#prefixes.insert(row, row.length, store, slots.indexOf(row), this.#selections.loaded);
    this.#batch.remove(row);
  }

  /** Takes a row's memory away; it waits again, and is computed again with the tokens that it has. */
  #preempt(id: number): void {
    const prefill = this.#prefills.all.find(({ row }) => row.id === id);
    if (prefill !== undefined) {
      this.#prefills.drop(prefill);
      this.#waitAgain(prefill.row);
      return;
    }
    const row = this.#batch.rows.find((one) => one.id === id)!;
    const group = this.#batch.groups.find(({ slots }) => slots.includes(row))!;
    this.#leave(row, group);
    this.#waitAgain(row);
  }

  /** Rows whose keys and values went with their device are computed again, but for those that cannot be. */
  #leaveLost(output: StepOutput): void {
    const lost = ({ store }: { store: RowStore }) => store.broken === 'lost';
    const read = this.#prefills.dropAll(lost);
    const decoded = this.#batch.groups.filter(lost).flatMap(({ slots }) => slots.filter((row) => row !== undefined));
    for (const row of decoded) this.#batch.remove(row);
    for (const row of [...read, ...decoded]) {
      const end = row.lose();
      if (end === undefined) this.#waitAgain(row);
      else this.#finish(row, end, output);
    }
  }

  /** The backend runs elsewhere now: what was measured or kept before is of no use there, and the budget may hold less. */
  #settle(output: StepOutput): void {
    this.#place = this.#backend.place;
    this.#costs = new StepCosts();
    this.#prefixes.drop(() => true);
    const fault = ({ totalTokens }: Row) => positionsFault(totalTokens, this.#limits.maxPositions);
    for (const row of this.#waiting.drop((one) => fault(one) !== undefined))
      this.#finish(row, row.fail(fault(row)), output);
  }

  #waitAgain(row: Row): void {
    row.preempt();
    this.#counts.preemptions += 1;
    this.#waiting.putBack(row);
  }

  /** Samples the row's next token; false when the row has ended with it. */
  #pick(row: Row, pick: () => Picked, output: StepOutput): boolean {
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
    this.#finish(row, end, output);
    return false;
  }

  /** Ends those of a failed step's rows that had not ended. */
  #fail(rows: readonly (Row | undefined)[], error: unknown, output: StepOutput): void {
    for (const row of rows) {
      if (row === undefined || output.ends.some(({ id }) => id === row.id)) continue;
      this.#batch.remove(row);
      this.#finish(row, row.fail(error), output);
    }
  }

  #finish(row: Row, event: EndEvent, output: StepOutput): void {
    this.#cancelled.delete(row.id);
    if (row.servedMs > 0) this.#service.ended(row.servedMs);
    this.#selections.release(row.spans);
    output.ends.push(event);
  }

  #applyCancels(output: StepOutput): void {
    if (this.#cancelled.size === 0) return;
    const gone = (row: Row) => this.#cancelled.has(row.id);
    const left = [...this.#waiting.drop(gone), ...this.#prefills.dropAll(({ row }) => gone(row))];
    const running = this.#batch.rows.filter(gone);
    for (const row of running) this.#batch.remove(row);
    for (const row of [...left, ...running]) this.#finish(row, row.end('cancelled'), output);
    // What is left names rows that had ended already.
    this.#cancelled.clear();
  }
}
