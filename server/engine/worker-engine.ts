/** The main thread's end of the engine worker: numbers rows, routes their events, and notices when the worker dies. */
import type { Worker } from 'node:worker_threads';
import type { BoundAdapter } from '../adapters/types.js';
import { AppError } from '../errors.js';
import { moduleBeside, startThread } from '../threads.js';
import type { Engine, EngineRow, RowHandle, RowListener } from './engine.js';
import type { EngineStats, FromEngine, RowRequest, ToEngine } from './messages.js';
import { clock } from './row.js';
import { positionsFor } from './scheduler.js';
import type { WorkerOptions } from './worker.js';

/** Bounds that the main thread enforces before a row reaches the worker. */
export interface EngineLimits {
  /** Rows that may wait or run at once. */
  readonly maxQueue: number;
}

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
  const worker = startThread(moduleBeside(import.meta.url, 'worker'), { options });
  const engine = new WorkerEngine(worker, limits);
  const stop = () => engine.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await engine.ready;
  } catch (error) {
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
  readonly #loads = new Map<string, { resolve(): void; reject(error: Error): void }>();
  readonly #unloads = new Map<string, () => void>();
  readonly #gifts = new Map<string, ((adapter: BoundAdapter | undefined) => void)[]>();
  /** What the budget of keys and values holds; 0 before the engine is ready. */
  maxPositions = 0;
  #nextId = 1;
  /** Submitted in this turn of the event loop, not sent yet. */
  #unsent: RowRequest[] = [];
  #stats = NO_STATS;
  #tellStopped: () => void = () => {};
  readonly #settleReady: { resolve(): void; reject(error: Error): void };
  #closing = false;

  constructor(worker: Worker, limits: EngineLimits) {
    this.#worker = worker;
    this.#limits = limits;
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
    worker.on('exit', (code) => this.#die(`the engine thread ended with code ${code}`));
  }

  submit(rows: readonly EngineRow[], listeners: readonly RowListener[]): readonly RowHandle[] {
    if (!this.alive) throw new AppError('ENGINE_FAILED', `the engine has stopped: ${this.failure}`);
    checkQueue(this.#listeners.size, rows.length, this.#limits.maxQueue);
    checkPositions(rows, this.maxPositions);
    const submittedAt = clock();
    const requests: RowRequest[] = rows.map((row) => ({ ...row, id: this.#nextId++, submittedAt }));
    for (const [i, { id }] of requests.entries()) this.#listeners.set(id, listeners[i]!);
    // What arrives in one turn of the event loop goes over in one message; its rows may then be read together.
    if (this.#unsent.length === 0) setImmediate(() => this.#sendRows());
    this.#unsent.push(...requests);
    return requests.map(({ id }) => ({
      cancel: () => this.#listeners.has(id) && this.#send({ type: 'cancel', ids: [id] }),
    }));
  }

  /** Sends the rows that wait for it. Everything else that is sent comes behind them. */
  #sendRows(): void {
    if (this.#unsent.length === 0) return;
    const rows = this.#unsent;
    this.#unsent = [];
    if (this.alive) this.#worker.postMessage({ type: 'submit', rows } satisfies ToEngine);
  }

  load(adapter: BoundAdapter): Promise<void> {
    if (!this.alive) return Promise.reject(new AppError('ENGINE_FAILED', `the engine has stopped: ${this.failure}`));
    return new Promise((resolve, reject) => {
      this.#loads.set(adapter.digest, { resolve, reject });
      this.#sendRows();
      this.#worker.postMessage({ type: 'load', adapter } satisfies ToEngine, transferables(adapter));
    });
  }

  unload(digest: string): Promise<void> {
    if (!this.alive) return Promise.resolve();
    return new Promise((resolve) => {
      this.#unloads.set(digest, resolve);
      this.#send({ type: 'unload', digest });
    });
  }

  /** A copy of a loaded adapter; undefined = it is not loaded. */
  copyOf(digest: string): Promise<BoundAdapter | undefined> {
    if (!this.alive) return Promise.resolve(undefined);
    return new Promise((resolve) => {
      this.#gifts.set(digest, [...(this.#gifts.get(digest) ?? []), resolve]);
      this.#send({ type: 'give', digest });
    });
  }

  /** Tells the thread that others work beside it from now on. */
  expectOthers(): void {
    if (this.alive) this.#send({ type: 'beside' });
  }

  stats(): EngineStats {
    // Between steps the worker is silent; rows that were submitted since count as waiting.
    const known = this.#stats.runningRows + this.#stats.waitingRows;
    const live = this.#listeners.size;
    if (live === 0) return { ...this.#stats, runningRows: 0, waitingRows: 0 };
    return live > known ? { ...this.#stats, waitingRows: live - this.#stats.runningRows } : this.#stats;
  }

  /** Ends the worker at once, whatever it is doing; its rows count as cancelled. */
  stop(): void {
    this.#closing = true;
    this.abandon('it was stopped');
  }

  /** Ends the worker at once because of a fault elsewhere. */
  abandon(message: string): void {
    this.#die(message);
    void this.#worker.terminate();
  }

  async close(): Promise<void> {
    this.#closing = true;
    if (!this.alive) return;
    this.#send({ type: 'cancel', ids: [...this.#listeners.keys()] });
    const exited = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#send({ type: 'close' });
    await Promise.race([exited, new Promise((resolve) => setTimeout(resolve, 5000).unref())]);
    await this.#worker.terminate();
  }

  #send(message: Exclude<ToEngine, { type: 'submit' }>): void {
    this.#sendRows();
    this.#worker.postMessage(message);
  }

  #receive(message: FromEngine): void {
    switch (message.type) {
      case 'ready':
        this.device = { name: message.device, why: message.why };
        this.maxPositions = message.maxPositions;
        this.#settleReady.resolve();
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
        const load = this.#loads.get(message.digest);
        this.#loads.delete(message.digest);
        if (message.error === undefined) load?.resolve();
        else load?.reject(new AppError(message.reason ?? 'ADAPTER_UNSUPPORTED', message.error));
        return;
      }
      case 'unloaded':
        this.#stats = message.stats;
        this.#unloads.get(message.digest)?.();
        this.#unloads.delete(message.digest);
        return;
      case 'given':
        // Each question has its answer, in order.
        this.#gifts.get(message.digest)?.shift()?.(message.adapter);
    }
  }

  /** The worker is gone: everything that waits for it learns so, once. */
  #die(message: string): void {
    if (!this.alive) return;
    this.alive = false;
    this.failure = message;
    this.#tellStopped();
    this.#settleReady.reject(new AppError('MODEL_INVALID', message));
    const failure = new AppError('ENGINE_FAILED', `the engine stopped: ${message}`);
    for (const { reject } of this.#loads.values()) reject(failure);
    for (const resolve of this.#unloads.values()) resolve();
    for (const resolve of [...this.#gifts.values()].flat()) resolve(undefined);
    const cause = this.#closing ? 'cancelled' : 'error';
    for (const [id, listener] of this.#listeners) {
      listener.end({ id, cause, message: failure.message, cachedTokens: 0, queueMs: 0, prefillMs: 0, decodeMs: 0 });
    }
    this.#loads.clear();
    this.#unloads.clear();
    this.#gifts.clear();
    this.#listeners.clear();
  }
}

/** Refuses rows that could never have the memory they need. Throws KV_EXHAUSTED. */
export function checkPositions(rows: readonly EngineRow[], maxPositions: number): void {
  for (const row of rows) {
    const totalTokens = row.promptIds.length + row.maxNewTokens;
    if (positionsFor(totalTokens) <= maxPositions) continue;
    throw new AppError(
      'KV_EXHAUSTED',
      `a row of ${totalTokens} tokens needs ${positionsFor(totalTokens)} cache positions, the budget holds ${maxPositions}`,
    );
  }
}

/** Refuses rows beyond the most that may wait or run. Throws QUEUE_FULL. */
export function checkQueue(present: number, more: number, maxQueue: number): void {
  if (present + more <= maxQueue) return;
  throw new AppError(
    'QUEUE_FULL',
    `${present} rows wait or run already, ${more} more would exceed the limit of ${maxQueue}`,
    { retryAfterMs: 1000 },
  );
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
