/** The main thread's end of the engine worker: numbers rows, routes their events, and notices when the worker dies. */
import type { Worker } from 'node:worker_threads';
import type { BoundAdapter } from '../adapters/types.js';
import { AppError } from '../errors.js';
import { endThread, moduleBeside, noteHeld, startThread } from '../threads.js';
import { checkPositions, checkQueue } from './admission.js';
import type { KeptWeights } from './converted-weights.js';
import type { Engine, EngineRow, RowHandle, RowListener } from './engine.js';
import type { EngineStats, FromEngine, RowRequest, ToEngine } from './messages.js';
import { clock, refusal } from './row.js';
import { StallWatch, stallError } from './stall-watch.js';
import { StepMarks } from './step-marks.js';
import type { WorkerOptions } from './worker.js';

/** Bounds that the main thread enforces before a row reaches the worker. */
export interface EngineLimits {
  /** Rows that may wait or run at once. */
  readonly maxQueue: number;
  /** How long a native call of a step may last before the engine counts as stalled; absent or 0 = for ever. */
  readonly stepTimeoutMs?: number | undefined;
}

/** Somebody who waits for the thread. Settling it twice does nothing, so it may stay in line when it is given up. */
interface Waiting<T> {
  resolve(value: T): void;
  reject(error: Error): void;
  /** Nobody waits for it any more. */
  abandoned?: boolean;
}

/** How long a thread may take to give back what it has before it is ended without. [ms] */
const CLOSE_MS = 5000;

/** Of an engine that has done nothing. */
export const NO_STATS: EngineStats = {
  runningRows: 0,
  waitingRows: 0,
  prefillSteps: 0,
  decodeSteps: 0,
  prefillTokens: 0,
  decodeTokens: 0,
  cachedTokens: 0,
  preemptions: 0,
  guessesAccepted: 0,
  guessesRejected: 0,
  kvBytes: 0,
  prefixBytes: 0,
  adaptersLoaded: 0,
  adapterBytes: 0,
  runMs: 0,
  overheadMs: 0,
};

/**
 * Starts the worker and resolves once the model is ready. Throws MODEL_INVALID with the worker's message.
 * @param signal ends the attempt when it aborts
 */
export async function startEngine(
  options: WorkerOptions,
  limits: EngineLimits,
  signal?: AbortSignal,
): Promise<WorkerEngine> {
  signal?.throwIfAborted();
  const marks = new StepMarks();
  const data = { options: { ...options, marks: marks.memory } };
  const worker = startThread(moduleBeside(import.meta.url, 'worker'), data);
  const engine = new WorkerEngine(worker, limits, marks);
  const stop = () => engine.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await engine.ready;
  } catch (error) {
    // It may be in the middle of opening a session, which nothing ends.
    if (signal?.aborted) await endThread(worker);
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
  return engine;
}

/** One engine thread. */
export class WorkerEngine implements Engine {
  readonly ready: Promise<void>;
  alive = true;
  failure: string | undefined;
  readonly stopped: Promise<void>;
  device: Engine['device'];
  readonly #worker: Worker;
  readonly #limits: EngineLimits;
  readonly #listeners = new Map<number, RowListener>();
  readonly #watch: StallWatch;
  readonly #onStall: (() => void)[] = [];
  readonly #onMove: (() => void)[] = [];
  /** By digest, in the order in which the thread was asked; it answers each, in order. */
  readonly #loads = new Map<string, Waiting<void>[]>();
  readonly #unloads = new Map<string, Waiting<void>[]>();
  readonly #gifts = new Map<string, Waiting<BoundAdapter | undefined>[]>();
  /** What the budget of keys and values holds; 0 before the engine is ready. */
  maxPositions = 0;
  /** The kept file that its weights are mapped from; absent = there is none, or the engine is not ready. */
  kept: KeptWeights | undefined;
  #nextId = 1;
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
      pending: () => this.#closing || this.#listeners.size + this.#loads.size + this.#unloads.size > 0,
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

  submit(rows: readonly EngineRow[], listeners: readonly RowListener[]): readonly RowHandle[] {
    this.#requireOpen();
    checkQueue(this.#listeners.size, rows.length, this.#limits.maxQueue);
    checkPositions(rows, this.maxPositions);
    const submittedAt = clock();
    const requests: RowRequest[] = rows.map((row) => ({ ...row, id: this.#nextId++, submittedAt }));
    for (const [i, { id }] of requests.entries()) this.#listeners.set(id, listeners[i]!);
    // What arrives in one turn of the event loop goes over in one message; its rows may then be read together.
    if (this.#unsent.length === 0) setImmediate(() => this.#sendRows());
    this.#unsent.push(...requests);
    this.#watch.expect();
    return requests.map(({ id }) => ({
      cancel: () => this.#listeners.has(id) && this.#send({ type: 'cancel', ids: [id] }),
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
    const loaded = inLine(this.#loads, adapter.digest);
    this.#sendRows();
    this.#worker.postMessage({ type: 'load', adapter } satisfies ToEngine, transferables(adapter));
    this.#watch.expect();
    return loaded;
  }

  unload(digest: string): Promise<void> {
    if (!this.alive) return Promise.resolve();
    const unloaded = inLine(this.#unloads, digest);
    this.#send({ type: 'unload', digest });
    // It is done before anything that is asked for later.
    if (this.stalled !== undefined) return Promise.resolve();
    this.#watch.expect();
    return unloaded;
  }

  /** A copy of a loaded adapter; undefined = it is not loaded. */
  copyOf(digest: string): Promise<BoundAdapter | undefined> {
    if (!this.alive || this.stalled !== undefined) return Promise.resolve(undefined);
    const given = inLine(this.#gifts, digest);
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
    const live = this.#listeners.size;
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
    this.#send({ type: 'cancel', ids: [...this.#listeners.keys()] });
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
        this.#settleReady.resolve();
        if (message.type === 'moved') for (const listener of this.#onMove) listener();
        return;
      case 'failed':
        this.#die(message.message);
        return;
      case 'step':
        this.#stats = message.stats;
        for (const event of message.prompts) this.#listeners.get(event.id)?.prompt?.(event);
        for (const event of message.tokens) this.#listeners.get(event.id)?.token(event);
        for (const event of message.ends) {
          const listener = this.#listeners.get(event.id);
          this.#listeners.delete(event.id);
          listener?.end(event);
        }
        return;
      case 'loaded': {
        this.#stats = message.stats;
        const load = next(this.#loads, message.digest);
        if (message.error !== undefined)
          load?.reject(new AppError(message.reason ?? 'ADAPTER_UNSUPPORTED', message.error));
        else if (load?.abandoned && !this.#loads.has(message.digest)) void this.unload(message.digest);
        else load?.resolve();
        return;
      }
      case 'unloaded':
        this.#stats = message.stats;
        next(this.#unloads, message.digest)?.resolve();
        return;
      case 'given':
        next(this.#gifts, message.digest)?.resolve(message.adapter);
    }
  }

  /** What waits for a thread that does not move is told so; the thread learns of it when it moves again. */
  #stallChanged(): void {
    noteHeld(this.#worker, this.stalled !== undefined);
    if (this.stalled !== undefined) {
      const failure = stallError(this.stalled);
      const ids = [...this.#listeners.keys()];
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
    for (const load of [...this.#loads.values()].flat()) {
      load.abandoned = true;
      load.reject(failure);
    }
    for (const { resolve } of [...this.#unloads.values()].flat()) resolve();
    for (const { resolve } of [...this.#gifts.values()].flat()) resolve(undefined);
    const rows = [...this.#listeners];
    this.#listeners.clear();
    for (const [id, listener] of rows) listener.end({ ...refusal(id, failure), cause });
  }
}

/** Puts somebody in line for the thread's answer about a digest. */
function inLine<T>(lines: Map<string, Waiting<T>[]>, digest: string): Promise<T> {
  return new Promise((resolve, reject) => {
    lines.set(digest, [...(lines.get(digest) ?? []), { resolve, reject }]);
  });
}

/** Whom the thread's answer about a digest is for. */
function next<T>(lines: Map<string, Waiting<T>[]>, digest: string): Waiting<T> | undefined {
  const [first, ...others] = lines.get(digest) ?? [];
  if (others.length > 0) lines.set(digest, others);
  else lines.delete(digest);
  return first;
}

/** Every distinct buffer of an adapter's arrays. */
function transferables(adapter: BoundAdapter): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  const add = (array: Float32Array | undefined) => {
    if (array !== undefined && array.buffer instanceof ArrayBuffer) buffers.add(array.buffer);
  };
  for (const { a, b, gain, biasDelta, replaced } of adapter.linears)
    for (const array of [a, b, gain, biasDelta, replaced]) add(array);
  for (const values of [...adapter.norms.values(), ...(adapter.normBiases?.values() ?? [])]) add(values);
  const { lora, rows, replaced } = adapter.embedding ?? {};
  for (const array of [lora?.a, lora?.b, lora?.gain, replaced, ...(rows?.values() ?? [])]) add(array);
  return [...buffers];
}
