/** The main thread's end of the engine worker: numbers rows, routes their events, and notices when the worker dies. */
import type { Worker } from 'node:worker_threads';
import { buffersOf } from '../adapters/adapter-arrays.js';
import type { BoundAdapter } from '../adapters/types.js';
import { AppError } from '../errors.js';
import { endThread, noteHeld } from '../threads.js';
import { checkPositions, checkQueue, mostTokens } from './admission.js';
import { AnswersAwaited } from './answers-awaited.js';
import type { KeptWeights, Unkept } from './converted-weights.js';
import type { Engine, EngineRow, RowHandle, RowListener } from './engine.js';
import { NO_STATS } from './engine-counts.js';
import type { EngineStats, FromEngine, RowRequest, ToEngine } from './messages.js';
import { RowsInFlight } from './rows-in-flight.js';
import { StallWatch, stallError } from './stall-watch.js';
import { StepMarks } from './step-marks.js';

/** Bounds that the main thread enforces before a row reaches the worker. */
export interface EngineLimits {
  /** Rows that may wait or run at once. */
  readonly maxQueue: number;
  /** How long a native call of a step may last before the engine counts as stalled; absent or 0 = for ever. */
  readonly stepTimeoutMs?: number | undefined;
}

/** How long a thread may take to give back what it has before it is ended without. [ms] */
const CLOSE_MS = 5000;

/** One engine thread. */
export class WorkerEngine implements Engine {
  readonly ready: Promise<void>;
  alive = true;
  failure: string | undefined;
  readonly stopped: Promise<void>;
  device: Engine['device'];
  readonly #worker: Worker;
  readonly #limits: EngineLimits;
  readonly #rows = new RowsInFlight();
  readonly #watch: StallWatch;
  readonly #onStall: (() => void)[] = [];
  readonly #onMove: (() => void)[] = [];
  /** By digest, in the order in which the thread was asked; it answers each, in order. */
  readonly #loads = new AnswersAwaited<void>();
  readonly #unloads = new AnswersAwaited<void>();
  readonly #gifts = new AnswersAwaited<BoundAdapter | undefined>();
  /** What the budget of keys and values holds; 0 before the engine is ready. */
  maxPositions = 0;
  /** The kept file that its weights are mapped from; absent = there is none, or the engine is not ready. */
  kept: KeptWeights | undefined;
  /** Converted weights that their folder did not take; absent = nobody wanted to keep any, or they are kept. */
  unkept: Unkept | undefined;
  /** Submitted in this turn of the event loop, not sent yet. */
  #unsent: RowRequest[] = [];
  #stats = NO_STATS;
  #tellStopped: () => void = () => {};
  readonly #settleReady: { resolve(): void; reject(error: Error): void };
  #closing = false;

  /** @param marks those that the worker writes; absent = nothing is known of its steps */
  constructor(worker: Worker, limits: EngineLimits, marks = new StepMarks()) {
    this.#worker = worker;
    this.#limits = limits;
    this.#watch = new StallWatch({
      marks,
      timeoutMs: limits.stepTimeoutMs ?? 0,
      pending: () => this.#closing || this.#rows.size + this.#loads.size + this.#unloads.size > 0,
      changed: () => this.#stallChanged(),
    });
    let settle: { resolve(): void; reject(error: Error): void } | undefined;
    this.ready = new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
    this.#settleReady = settle!;
    this.stopped = new Promise((resolve) => {
      this.#tellStopped = resolve;
    });
    worker.on('message', (message: FromEngine) => this.#receive(message));
    worker.on('error', (error) => this.#die(error.message));
    worker.on('exit', (code) => {
      noteHeld(worker, false);
      this.#die(`the engine thread ended with code ${code}`);
    });
  }

  get maxRowTokens(): number {
    return mostTokens(this.maxPositions);
  }

  submit(rows: readonly EngineRow[], listeners: readonly RowListener[]): readonly RowHandle[] {
    this.#requireOpen();
    checkQueue(this.#rows.size, rows.length, this.#limits.maxQueue);
    checkPositions(rows, this.maxPositions);
    const requests = this.#rows.add(rows, listeners);
    // What arrives in one turn of the event loop goes over in one message; its rows may then be read together.
    if (this.#unsent.length === 0) setImmediate(() => this.#sendRows());
    this.#unsent.push(...requests);
    this.#watch.expect();
    return requests.map(({ id }) => ({
      cancel: () => this.#rows.has(id) && this.#send({ type: 'cancel', ids: [id] }),
    }));
  }

  /** Throws ENGINE_FAILED, ENGINE_STALLED where the thread takes nothing. */
  #requireOpen(): void {
    // One that is being closed reads no messages any more.
    const failure = this.alive && this.#closing ? 'it was closed' : this.failure;
    if (failure !== undefined) throw new AppError('ENGINE_FAILED', `the engine has stopped: ${failure}`);
    if (this.stalled !== undefined) throw stallError(this.stalled);
  }

  /** Sends the rows that wait for it. Everything else that is sent comes behind them. */
  #sendRows(): void {
    if (this.#unsent.length === 0) return;
    const rows = this.#unsent;
    this.#unsent = [];
    if (this.alive) this.#worker.postMessage({ type: 'submit', rows } satisfies ToEngine);
  }

  async load(adapter: BoundAdapter): Promise<void> {
    this.#requireOpen();
    const loaded = this.#loads.answerTo(adapter.digest);
    this.#sendRows();
    this.#worker.postMessage({ type: 'load', adapter } satisfies ToEngine, buffersOf(adapter));
    this.#watch.expect();
    return loaded;
  }

  unload(digest: string): Promise<void> {
    if (!this.alive) return Promise.resolve();
    const unloaded = this.#unloads.answerTo(digest);
    this.#send({ type: 'unload', digest });
    // It is done before anything that is asked for later.
    if (this.stalled !== undefined) return Promise.resolve();
    this.#watch.expect();
    return unloaded;
  }

  /** A copy of a loaded adapter; undefined = it is not loaded. */
  copyOf(digest: string): Promise<BoundAdapter | undefined> {
    if (!this.alive || this.stalled !== undefined) return Promise.resolve(undefined);
    const given = this.#gifts.answerTo(digest);
    this.#send({ type: 'give', digest });
    return given;
  }

  /** Tells the thread that others work beside it from now on. */
  expectOthers(): void {
    if (this.alive) this.#send({ type: 'beside' });
  }

  /** Tells the thread that the cache has the packed form of its weights by now. */
  tellPacked(): void {
    if (this.alive) this.#send({ type: 'packed' });
  }

  get stalled(): string | undefined {
    return this.#watch.stalled;
  }

  onStall(listener: () => void): void {
    this.#onStall.push(listener);
  }

  onMove(listener: () => void): void {
    this.#onMove.push(listener);
  }

  stats(): EngineStats {
    // Between steps the worker is silent; rows that were submitted since count as waiting.
    const known = this.#stats.runningRows + this.#stats.waitingRows;
    const live = this.#rows.size;
    if (live === 0) return { ...this.#stats, runningRows: 0, waitingRows: 0 };
    return live > known ? { ...this.#stats, waitingRows: live - this.#stats.runningRows } : this.#stats;
  }

  /** Ends the worker as soon as it can be ended; its rows end at once, and count as cancelled. */
  stop(): void {
    this.#closing = true;
    this.abandon('it was stopped');
  }

  /** The same because of a fault elsewhere. */
  abandon(message: string): void {
    this.#die(message);
    void endThread(this.#worker);
  }

  async close(): Promise<void> {
    this.#closing = true;
    if (!this.alive) return;
    this.#send({ type: 'cancel', ids: this.#rows.ids });
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#send({ type: 'close' });
    this.#watch.expect();
    await Promise.race([exited, new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
    const ended = endThread(this.#worker);
    // A thread that a native call holds cannot be ended.
    const stalled = new Promise<void>((resolve) => this.onStall(resolve));
    if (this.stalled === undefined) await Promise.race([ended, stalled]);
  }

  #send(message: Exclude<ToEngine, { type: 'submit' }>): void {
    this.#sendRows();
    this.#worker.postMessage(message);
  }

  #receive(message: FromEngine): void {
    if (this.stalled !== undefined) this.#watch.look();
    switch (message.type) {
      case 'ready':
      case 'moved':
        this.device = { name: message.device, why: message.why };
        this.maxPositions = message.maxPositions;
        this.kept = message.kept;
        this.unkept = message.unkept;
        this.#settleReady.resolve();
        if (message.type === 'moved') for (const listener of this.#onMove) listener();
        return;
      case 'failed':
        this.#die(message.message);
        return;
      case 'step':
        this.#stats = message.stats;
        this.#rows.tell(message);
        return;
      case 'loaded': {
        this.#stats = message.stats;
        const load = this.#loads.next(message.digest);
        if (message.error !== undefined)
          load?.reject(new AppError(message.reason ?? 'ADAPTER_UNSUPPORTED', message.error));
        else if (load?.abandoned && !this.#loads.has(message.digest)) void this.unload(message.digest);
        else load?.resolve();
        return;
      }
      case 'unloaded':
        this.#stats = message.stats;
        this.#unloads.next(message.digest)?.resolve();
        return;
      case 'given':
        this.#gifts.next(message.digest)?.resolve(message.adapter);
    }
  }

  /** What waits for a thread that does not move is told so; the thread learns of it when it moves again. */
  #stallChanged(): void {
    noteHeld(this.#worker, this.stalled !== undefined);
    if (this.stalled !== undefined) {
      const failure = stallError(this.stalled);
      const { ids } = this.#rows;
      if (ids.length > 0) this.#send({ type: 'cancel', ids });
      this.#giveUp(failure, 'error');
    }
    for (const listener of this.#onStall) listener();
  }

  /** The worker is gone: everything that waits for it learns so, once. */
  #die(message: string): void {
    if (!this.alive) return;
    this.alive = false;
    this.failure = message;
    this.#watch.stop();
    this.#tellStopped();
    this.#settleReady.reject(new AppError('MODEL_INVALID', message));
    const failure = new AppError('ENGINE_FAILED', `the engine stopped: ${message}`);
    this.#giveUp(failure, this.#closing ? 'cancelled' : 'error');
    for (const line of [this.#loads, this.#unloads, this.#gifts]) line.clear();
  }

  /** Everyone who waits for the thread waits no longer. What it was asked for stays in line, in case it answers. */
  #giveUp(failure: AppError, cause: 'cancelled' | 'error'): void {
    for (const load of this.#loads.all) {
      load.abandoned = true;
      load.reject(failure);
    }
    for (const { resolve } of this.#unloads.all) resolve();
    for (const { resolve } of this.#gifts.all) resolve(undefined);
    this.#rows.endAll(failure, cause);
  }
}
