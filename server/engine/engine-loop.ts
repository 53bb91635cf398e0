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
import type { LoopState } from './loop-state.js';
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
  readonly #limits: LoopLimits;
  readonly #adapters = new Map<string, BoundAdapter>();
  readonly #state: LoopState;
  readonly #cancelled = new Set<number>();
  readonly #outcomes: RowOutcomes;
  readonly #reader: PromptReader;
  readonly #decoder: BatchDecoder;
  #readSinceDecode = 0;
  /** Where the backend ran when it was last looked at. */
  #place: StepBackend['place'];

  constructor(backend: StepBackend, limits: LoopLimits) {
    this.#limits = limits;
    this.#place = backend.place;
    this.#state = {
      backend,
      waiting: new RowQueue(),
      prefills: new Prefills(),
      batch: new DecodeBatch(backend, limits),
      prefixes: new PrefixCache(() => backend.createStore(1, BLOCK), limits.prefixBytes ?? 0),
      selections: new Selections(this.#adapters),
      costs: new StepCosts(),
      service: new ServiceLedger(),
      counts: new EngineCounts(),
    };
    this.#outcomes = new RowOutcomes(this.#state);
    this.#reader = new PromptReader(this.#state, this.#outcomes);
    this.#decoder = new BatchDecoder(this.#state, this.#outcomes, limits.lookupTokens ?? 0);
  }

  /** True while any row waits or runs. */
  get busy(): boolean {
    const { waiting, prefills, batch } = this.#state;
    return waiting.rows.length > 0 || prefills.current !== undefined || batch.groups.length > 0;
  }

  /** Takes a loaded adapter. Throws when the backend cannot apply it. */
  async load(adapter: BoundAdapter): Promise<void> {
    await this.#state.backend.load(adapter);
    this.#adapters.set(adapter.digest, adapter);
  }

  /** A loaded adapter. */
  adapter(digest: string): BoundAdapter | undefined {
    return this.#adapters.get(digest);
  }

  /** Forgets an adapter and the prefixes read with it. A row that still uses it keeps its weights alive until it ends. */
  unload(digest: string): void {
    this.#adapters.delete(digest);
    this.#state.prefixes.drop((key) => selects(key, digest));
    this.#state.backend.unload(digest);
  }

  /** Enqueues a row. A row that names an adapter that is not loaded ends with an error: never the base instead. */
  submit(request: RowRequest): EndEvent | undefined {
    const { backend, waiting, selections } = this.#state;
    try {
      checkPositions([request], this.#limits.maxPositions);
      const spans = selections.spans(request);
      waiting.add((arrival) => new Row(request, spans, backend.spec.ropes, arrival));
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
    const { backend, counts } = this.#state;
    const output: StepOutput = { prompts: [], tokens: [], ends: [] };
    this.#applyCancels(output);
    this.#leaveLost(output);
    if (backend.place !== this.#place) this.#settle(output);
    const start = performance.now();
    let decision = this.#decide();
    for (; decision.kind === 'preempt'; decision = this.#decide()) this.#preempt(decision.id);
    if (decision.kind === 'decode') {
      await this.#decoder.step(output);
      this.#readSinceDecode = 0;
    } else if (decision.kind !== 'idle') {
      const read = counts.prefillTokens;
      if (decision.kind === 'prefill') await this.#reader.goOn(decision.tokens, output);
      else await this.#reader.start(this.#take(decision.ids), decision.tokens, output);
      this.#readSinceDecode += Math.max(1, counts.prefillTokens - read);
    }
    counts.stepMs += performance.now() - start;
    return output;
  }

  stats(): EngineStats {
    const { backend, prefills, waiting, batch, prefixes, counts } = this.#state;
    const held = {
      runningRows: batch.rows.length + prefills.rows.length,
      waitingRows: waiting.rows.length,
      kvBytes: prefills.bytes + batch.bytes,
      prefixBytes: prefixes.bytes,
    };
    return counts.stats(held, this.#adapters, backend.runMs, backend.restarts);
  }

  #decide(): ReturnType<typeof decide> {
    const { backend, waiting, prefills, batch, costs, service } = this.#state;
    const joins = backend.prefillTogether !== undefined;
    return decide(
      {
        waiting: waiting.rows,
        prefilling: prefills.rows,
        groups: batch.rowsByGroup,
        readSinceDecode: this.#readSinceDecode,
        costs,
        service,
      },
      joins ? { maxJoined: this.#limits.maxBatch, ...this.#limits } : this.#limits,
    );
  }

  /** Takes rows from the queue. */
  #take(ids: readonly number[]): Row[] {
    const rows = this.#state.waiting.take(ids);
    for (const row of this.#state.prefills.rows) row.overtaken += 1;
    for (const row of rows) row.start();
    return rows;
  }

  /** Takes a row's memory away; it waits again, and is computed again with the tokens that it has. */
  #preempt(id: number): void {
    const { prefills, batch } = this.#state;
    const prefill = prefills.all.find(({ row }) => row.id === id);
    if (prefill !== undefined) {
      prefills.drop(prefill);
      this.#outcomes.waitAgain(prefill.row);
      return;
    }
    const row = batch.rows.find((one) => one.id === id)!;
    const group = batch.groups.find(({ slots }) => slots.includes(row))!;
    this.#decoder.leave(row, group);
    this.#outcomes.waitAgain(row);
  }

  /** Rows whose keys and values went with their device are computed again, but for those that cannot be. */
  #leaveLost(output: StepOutput): void {
    const { prefills, batch } = this.#state;
    const lost = ({ store }: { store: RowStore }) => store.broken === 'lost';
    const read = prefills.dropAll(lost);
    const decoded = batch.groups.filter(lost).flatMap(({ slots }) => slots.filter((row) => row !== undefined));
    for (const row of decoded) batch.remove(row);
    for (const row of [...read, ...decoded]) {
      const end = row.lose();
      if (end === undefined) this.#outcomes.waitAgain(row);
      else this.#outcomes.finish(row, end, output);
    }
  }

  /** The backend runs elsewhere now: what was measured or kept before is of no use there, and the budget may hold less. */
  #settle(output: StepOutput): void {
    const { backend, waiting, prefixes, costs } = this.#state;
    this.#place = backend.place;
    costs.forget();
    prefixes.drop(() => true);
    const fault = ({ totalTokens }: Row) => positionsFault(totalTokens, this.#limits.maxPositions);
    for (const row of waiting.drop((one) => fault(one) !== undefined))
      this.#outcomes.finish(row, row.fail(fault(row)), output);
  }

  #applyCancels(output: StepOutput): void {
    if (this.#cancelled.size === 0) return;
    const { waiting, prefills, batch } = this.#state;
    const gone = (row: Row) => this.#cancelled.has(row.id);
    const left = [...waiting.drop(gone), ...prefills.dropAll(({ row }) => gone(row))];
    const running = batch.rows.filter(gone);
    for (const row of running) batch.remove(row);
    for (const row of [...left, ...running]) this.#outcomes.finish(row, row.end('cancelled'), output);
    // What is left names rows that had ended already.
    this.#cancelled.clear();
  }
}
