/**
 * Reads adapters in worker threads, one after another: two that share the cores finish none of them sooner. Only where one
 * takes long, for its size or its disk, another thread takes what waits. Threads end when nothing was read for a while.
 */
import type { Worker } from 'node:worker_threads';
import { coresAtHand } from '../cgroup.js';
import { AppError } from '../errors.js';
import { moduleBeside, startThread } from '../threads.js';
import { revivedError } from './plain-error.js';
import type { ReadAdapter, ReadRequest } from './prepare-adapter.js';
import type { FromReader, ToReader } from './reader-messages.js';
import type { AdapterBase } from './types.js';
import type { AdapterReport } from './validate-adapter.js';

/** Reads adapters. Throws what {@link ./prepare-adapter.ts} throws. */
export interface AdapterReader {
  read(request: ReadRequest, base: AdapterBase): Promise<ReadAdapter>;
  /** Checks an adapter without loading it; its faults are in the report. */
  validate(request: ReadRequest, base: AdapterBase): Promise<AdapterReport>;
  /** Ends the threads; reads under way fail. */
  close(): Promise<void>;
}

/** Limits of a {@link createAdapterReader}. */
export interface ReaderOptions {
  /** Most adapters read at once; default 2. */
  readonly threads?: number | undefined;
  /**
   * How long an adapter waits for those before it until a further thread is started, in milliseconds; default 0 where there
   * are cores for it, else 2000.
   */
  readonly patienceMs?: number | undefined;
  /** How long an idle thread lives on, in milliseconds; default 10000. */
  readonly idleMs?: number | undefined;
  /** True: one thread is started at once and stays, so that no adapter waits for a thread to come up. Default false. */
  readonly ready?: boolean | undefined;
}

interface Job {
  readonly type: 'read' | 'validate';
  readonly request: ReadRequest;
  readonly base: AdapterBase;
  /** When it came, on the clock of `performance.now()`. */
  readonly since: number;
  resolve(result: ReadAdapter | AdapterReport): void;
  reject(error: Error): void;
}

/** Cores from which on two adapters are read side by side; each takes two threads, beside those that answer. */
const MANY_CORES = 6;

/** Heap of a thread for everything but weights, which lie outside of it. */
const HEAP_MEGABYTES = 1024;

/** One thread and the job it works on. */
class ReaderThread {
  private readonly worker: Worker;
  private job: Job | undefined;
  /** The one that the thread knows. */
  private base: AdapterBase | undefined;
  private idle: NodeJS.Timeout | undefined;
  private readonly idleMs: number;
  private readonly onFree: (thread: ReaderThread) => void;
  private readonly onGone: (thread: ReaderThread) => void;

  /** @param idleMs how long it lives on without work; Infinity = until it is ended */
  constructor(idleMs: number, onFree: (thread: ReaderThread) => void, onGone: (thread: ReaderThread) => void) {
    const module = moduleBeside(import.meta.url, 'reader-worker');
    this.worker = startThread(module, {}, { resourceLimits: { maxOldGenerationSizeMb: HEAP_MEGABYTES } });
    this.idleMs = idleMs;
    this.onFree = onFree;
    this.onGone = onGone;
    this.worker.on('message', (message: FromReader) => this.receive(message));
    this.worker.on('error', (error) => this.die(error));
    this.worker.on('exit', () => this.die(new Error('the reading thread ended')));
    this.worker.unref();
  }

  get busy(): boolean {
    return this.job !== undefined;
  }

  start(job: Job): void {
    this.job = job;
    clearTimeout(this.idle);
    this.worker.ref();
    const { readWeight: _, ...base } = job.base;
    const known = this.base === job.base;
    this.base = job.base;
    this.send({ type: job.type, request: job.request, base: known ? undefined : base });
  }

  async end(): Promise<void> {
    await this.worker.terminate();
  }

  private send(message: ToReader): void {
    this.worker.postMessage(message);
  }

  private receive(message: FromReader): void {
    const { job } = this;
    if (job === undefined) return;
    switch (message.type) {
      case 'weight':
        job.base.readWeight(message.tensor).then(
          (values) => this.send({ type: 'weight', values }),
          (thrown: unknown) => {
            const { reason, message: text, metadata } = AppError.from(thrown);
            this.send({ type: 'weight-failed', error: { reason, message: text, metadata } });
          },
        );
        return;
      case 'done':
        this.free();
        job.resolve(message.result);
        return;
      case 'failed':
        this.free();
        job.reject(revivedError(message.error));
    }
  }

  private free(): void {
    this.job = undefined;
    this.worker.unref();
    if (Number.isFinite(this.idleMs)) this.idle = setTimeout(() => this.retire(), this.idleMs).unref();
    this.onFree(this);
  }

  /** Ends an idle thread. It is given up first: a job that came before the thread has ended would end with it. */
  private retire(): void {
    this.onGone(this);
    void this.worker.terminate();
  }

  private die(error: Error): void {
    clearTimeout(this.idle);
    this.onGone(this);
    const { job } = this;
    this.job = undefined;
    const outOfMemory = (error as NodeJS.ErrnoException).code === 'ERR_WORKER_OUT_OF_MEMORY';
    job?.reject(
      outOfMemory
        ? new AppError(
            'ADAPTER_INVALID',
            `reading the adapter needs more than ${HEAP_MEGABYTES} MiB beside its weights`,
          )
        : new AppError('INTERNAL', 'internal error', { cause: error }),
    );
  }
}

class ThreadedReader implements AdapterReader {
  private readonly threads = new Set<ReaderThread>();
  private readonly queue: Job[] = [];
  private readonly limit: number;
  private readonly idleMs: number;
  private readonly patienceMs: number;
  private readonly ready: boolean;
  private impatience: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(options: ReaderOptions) {
    this.limit = options.threads ?? 2;
    this.patienceMs = options.patienceMs ?? (coresAtHand() < MANY_CORES ? 2000 : 0);
    this.idleMs = options.idleMs ?? 10_000;
    this.ready = options.ready ?? false;
    if (this.ready) this.startThread();
  }

  async read(request: ReadRequest, base: AdapterBase): Promise<ReadAdapter> {
    return (await this.enqueue('read', request, base)) as ReadAdapter;
  }

  async validate(request: ReadRequest, base: AdapterBase): Promise<AdapterReport> {
    return (await this.enqueue('validate', request, base)) as AdapterReport;
  }

  private enqueue(type: Job['type'], request: ReadRequest, base: AdapterBase): Promise<ReadAdapter | AdapterReport> {
    return new Promise((resolve, reject) => {
      if (this.closed) {
        reject(new AppError('SHUTTING_DOWN', 'the server is shutting down'));
        return;
      }
      this.queue.push({ type, request, base, since: performance.now(), resolve, reject });
      this.pump();
    });
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.impatience);
    for (const job of this.queue.splice(0)) job.reject(new AppError('SHUTTING_DOWN', 'the server is shutting down'));
    await Promise.all([...this.threads].map((thread) => thread.end()));
  }

  private pump(): void {
    clearTimeout(this.impatience);
    while (this.queue.length > 0) {
      let thread = [...this.threads].find((one) => !one.busy);
      if (thread === undefined && this.threads.size === 0) thread = this.firstThread();
      if (thread === undefined) break;
      thread.start(this.queue.shift()!);
    }
    const [first] = this.queue;
    if (first === undefined || this.threads.size >= this.limit) return;
    const startAnother = () => {
      try {
        this.startThread();
      } catch {
        // The system gives no further one: what waits is read by those that there are.
        return;
      }
      this.pump();
    };
    this.impatience = setTimeout(startAnother, first.since + this.patienceMs - performance.now()).unref();
  }

  /** Where the system gives none, nobody would read what waits: it fails. */
  private firstThread(): ReaderThread | undefined {
    try {
      return this.startThread();
    } catch (error) {
      for (const job of this.queue.splice(0)) job.reject(AppError.from(error));
      return undefined;
    }
  }

  private startThread(): ReaderThread {
    const stays = this.ready && this.threads.size === 0;
    const thread = new ReaderThread(
      stays ? Number.POSITIVE_INFINITY : this.idleMs,
      () => this.pump(),
      (gone) => {
        this.threads.delete(gone);
        if (!this.closed) this.pump();
      },
    );
    this.threads.add(thread);
    return thread;
  }
}

/** Reads adapters in up to `threads` worker threads. */
export function createAdapterReader(options: ReaderOptions = {}): AdapterReader {
  return new ThreadedReader(options);
}
