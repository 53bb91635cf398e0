/**
 * The engine proper: rows come in, steps run, tokens go out. It lives in the worker, but knows nothing of threads: tests
 * drive it directly. One `step()` at a time; what a step produced is returned in one piece.
 */
import type { BoundAdapter } from '../adapters/types.js';
import { checkPositions, positionsFault } from './admission.js';
import type { RowStore, StepBackend } from './backend.js';
import { BatchDecoder } from './batch-decoder.js';
import { DecodeBatch } from './decode-batch.js';
import { EngineCounts } from './engine-counts.js';
import type { EndEvent, EngineStats, RowRequest, StepOutput } from './messages.js';
import { BLOCK } from './placement.js';
import { Prefills } from './prefills.js';
import { PrefixCache } from './prefix-cache.js';
import { PromptReader } from './prompt-reader.js';
import { Row, refusal } from './row.js';
import { selects } from './row-adapter.js';
import { RowOutcomes } from './row-outcomes.js';
import { RowQueue } from './row-queue.js';
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
  readonly #costs = new StepCosts();
  readonly #service = new ServiceLedger();
  readonly #waiting = new RowQueue();
  readonly #prefills = new Prefills();
  readonly #batch: DecodeBatch;
  readonly #cancelled = new Set<number>();
  readonly #outcomes: RowOutcomes;
  readonly #reader: PromptReader;
  readonly #decoder: BatchDecoder;
  #readSinceDecode = 0;
  readonly #counts = new EngineCounts();
  /** Where the backend ran when it was last looked at. */
  #place: StepBackend['place'];

  constructor(backend: StepBackend, limits: LoopLimits) {
    this.#backend = backend;
    this.#limits = limits;
    this.#place = backend.place;
    this.#batch = new DecodeBatch(backend, limits);
    this.#prefixes = new PrefixCache(() => backend.createStore(1, BLOCK), limits.prefixBytes ?? 0);
    const state = {
      backend,
      waiting: this.#waiting,
      prefills: this.#prefills,
      batch: this.#batch,
      prefixes: this.#prefixes,
      selections: this.#selections,
      costs: this.#costs,
      service: this.#service,
      counts: this.#counts,
    };
    this.#outcomes = new RowOutcomes(state);
    this.#reader = new PromptReader(state, this.#outcomes);
    this.#decoder = new BatchDecoder(state, this.#outcomes, limits.lookupTokens ?? 0);
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
      await this.#decoder.step(output);
      this.#readSinceDecode = 0;
    } else if (decision.kind !== 'idle') {
      const read = this.#counts.prefillTokens;
      if (decision.kind === 'prefill') await this.#reader.goOn(decision.tokens, output);
      else await this.#reader.start(this.#take(decision.ids), decision.tokens, output);
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

  /** Takes a row's memory away; it waits again, and is computed again with the tokens that it has. */
  #preempt(id: number): void {
    const prefill = this.#prefills.all.find(({ row }) => row.id === id);
    if (prefill !== undefined) {
      this.#prefills.drop(prefill);
      this.#outcomes.waitAgain(prefill.row);
      return;
    }
    const row = this.#batch.rows.find((one) => one.id === id)!;
    const group = this.#batch.groups.find(({ slots }) => slots.includes(row))!;
    this.#decoder.leave(row, group);
    this.#outcomes.waitAgain(row);
  }

  /** Rows whose keys and values went with their device are computed again, but for those that cannot be. */
  #leaveLost(output: StepOutput): void {
    const lost = ({ store }: { store: RowStore }) => store.broken === 'lost';
    const read = this.#prefills.dropAll(lost);
    const decoded = this.#batch.groups.filter(lost).flatMap(({ slots }) => slots.filter((row) => row !== undefined));
    for (const row of decoded) this.#batch.remove(row);
    for (const row of [...read, ...decoded]) {
      const end = row.lose();
      if (end === undefined) this.#outcomes.waitAgain(row);
      else this.#outcomes.finish(row, end, output);
    }
  }

  /** The backend runs elsewhere now: what was measured or kept before is of no use there, and the budget may hold less. */
  #settle(output: StepOutput): void {
    this.#place = this.#backend.place;
    this.#costs.forget();
    this.#prefixes.drop(() => true);
    const fault = ({ totalTokens }: Row) => positionsFault(totalTokens, this.#limits.maxPositions);
    for (const row of this.#waiting.drop((one) => fault(one) !== undefined))
      this.#outcomes.finish(row, row.fail(fault(row)), output);
  }

  #applyCancels(output: StepOutput): void {
    if (this.#cancelled.size === 0) return;
    const gone = (row: Row) => this.#cancelled.has(row.id);
    const left = [...this.#waiting.drop(gone), ...this.#prefills.dropAll(({ row }) => gone(row))];
    const running = this.#batch.rows.filter(gone);
    for (const row of running) this.#batch.remove(row);
    for (const row of [...left, ...running]) this.#outcomes.finish(row, row.end('cancelled'), output);
    // What is left names rows that had ended already.
    this.#cancelled.clear();
  }
}
