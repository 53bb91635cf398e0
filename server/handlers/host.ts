/** The main thread's end of a handler's thread: calls, streams, time limits, and a new thread when one is lost. */
import type { Worker } from 'node:worker_threads';
import type { InputParts } from '../../sdk/handler-input.js';
import { AppError } from '../errors.js';
import type { CallContext, InferenceService, Receipt } from '../service/types.js';
import { moduleBeside, startThread } from '../threads.js';
import { HostGenerations } from './host-generations.js';
import type { FromHandler, HandlerFunction, HandlerWorkerOptions, ToHandler } from './messages.js';
import { PieceQueue } from './piece-queue.js';

/** Bounds of a handler. */
export interface HandlerLimits {
  /** Time for the answer to a call, and between two pieces of a stream. */
  readonly callMs: number;
  /** Heap of the thread, in bytes. */
  readonly memoryBytes: number;
}

/** What a host is made of. */
export interface HostOptions extends HandlerWorkerOptions {
  readonly limits: HandlerLimits;
  /** What the handler may generate with; undefined where its model has no weights. */
  readonly inference: InferenceService | undefined;
  /** Registrations that a new thread must know before it takes calls. */
  readonly registrations: () => Iterable<InputParts>;
  readonly log: HostLog;
}

/** The part of a logger that is used. */
export interface HostLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What a call came to. */
export interface HostAnswer {
  readonly code: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | AsyncIterable<string | Uint8Array> | undefined;
  /** Of what was generated for it; more may come while the body is a stream. */
  readonly receipts: readonly Receipt[];
}

/** How long a thread may take to say that it still runs, once a call is late. */
const PONG_MS = 1000;
/** Time for a module to be loaded. */
const START_MS = 60_000;
/** A thread that could not be started is not tried again before this time. */
const RETRY_MS = 1000;

interface Call {
  readonly fn: HandlerFunction;
  settle(answer: HostAnswer): void;
  fail(error: AppError): void;
  readonly queue: PieceQueue;
  readonly receipts: readonly Receipt[];
  timer: NodeJS.Timeout | undefined;
  streaming: boolean;
}

/** One handler. */
export class HandlerHost {
  readonly #options: HostOptions;
  readonly #calls = new Map<number, Call>();
  readonly #generations: HostGenerations;
  #worker: Worker | undefined;
  #functions: ReadonlySet<HandlerFunction> = new Set();
  #ready: Promise<void> | undefined;
  #failedAt = Number.NEGATIVE_INFINITY;
  #nextId = 1;
  #pong = (): void => {};
  /** Why no thread is started any more. */
  #closed: AppError | undefined;
  #idle = (): void => {};
  /** Calls that wait for a thread. */
  #waiting = 0;

  constructor(options: HostOptions) {
    this.#options = options;
    this.#generations = new HostGenerations(options, (message) => this.#send(message));
  }

  /** True while a thread is there that takes calls. */
  get alive(): boolean {
    return this.#worker !== undefined;
  }

  /** Starts the thread. Throws MODEL_INVALID where the module cannot be loaded or has no `handle`. */
  async start(): Promise<void> {
    try {
      await this.#thread();
    } catch (thrown) {
      const { message } = AppError.from(thrown);
      throw new AppError('MODEL_INVALID', message, { cause: thrown });
    }
  }

  /** True where the handler has the function. Only known once it has started. */
  has(fn: HandlerFunction): boolean {
    return this.#functions.has(fn);
  }

  /**
   * Calls a function.
   * @throws AppError HANDLER_FAILED with the handler's message, HANDLER_CRASHED, HANDLER_OUT_OF_MEMORY, HANDLER_TIMEOUT,
   *   CANCELED
   */
  async call(fn: HandlerFunction, input: InputParts, context: CallContext): Promise<HostAnswer> {
    this.#waiting++;
    try {
      await this.#thread();
    } catch (error) {
      this.#waiting--;
      if (!this.busy) this.#idle();
      throw error;
    }
    this.#waiting--;
    return this.#call(fn, input, context);
  }

  /** True while calls run, or wait for a thread. */
  get busy(): boolean {
    return this.#calls.size + this.#waiting > 0;
  }

  /** Resolves when no call runs, at the latest after `withinMs`. */
  async idle(withinMs: number): Promise<void> {
    if (!this.busy) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, withinMs);
      this.#idle = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Ends the thread; what still runs fails with the reason. */
  async close(why = new AppError('SHUTTING_DOWN', 'the server is shutting down')): Promise<void> {
    this.#closed = why;
    const worker = this.#worker;
    this.#lose(why);
    await worker?.terminate();
  }

  #call(fn: HandlerFunction, input: InputParts, { requestId, signal }: CallContext): Promise<HostAnswer> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(canceled());
        return;
      }
      const cancel = (error: AppError): void => {
        this.#send({ type: 'cancel', id, message: error.message });
        this.#end(id, error);
      };
      const onAbort = (): void => cancel(canceled());
      const queue = new PieceQueue(
        (pieces) => {
          this.#send({ type: 'more', id, pieces });
          this.#watch(id);
        },
        () => cancel(canceled()),
      );
      const over = (): void => signal.removeEventListener('abort', onAbort);
      this.#calls.set(id, {
        fn,
        queue,
        receipts: this.#generations.open(id, { requestId, signal }),
        timer: undefined,
        streaming: false,
        settle: (answer) => {
          if (!(answer.body instanceof PieceQueue)) over();
          resolve(answer);
        },
        fail: (error) => {
          over();
          reject(error);
        },
      });
      signal.addEventListener('abort', onAbort, { once: true });
      this.#watch(id);
      this.#send({ type: 'call', id, function: fn, input: plain(input), requestId });
    });
  }

  #receive(message: FromHandler): void {
    switch (message.type) {
      case 'answer': {
        const call = this.#calls.get(message.id);
        if (call === undefined) return;
        const { code, headers, body } = message;
        const streaming = typeof body === 'object' && 'stream' in body;
        call.streaming = streaming;
        call.settle({ code, headers, body: streaming ? call.queue : body, receipts: call.receipts });
        if (streaming) this.#watch(message.id);
        else this.#end(message.id);
        return;
      }
      case 'piece':
        this.#watch(message.id);
        this.#calls.get(message.id)?.queue.push(message.data);
        return;
      case 'end':
        this.#end(message.id);
        return;
      case 'error':
        this.#end(message.id, failed(message.message, message.status));
        return;
      case 'generate':
      case 'pull':
      case 'leave':
        this.#generations.receive(message);
        return;
      case 'pong':
        this.#pong();
    }
  }

  /** A call is over: with an error, or with all that it had to say. */
  #end(id: number, error?: AppError): void {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    this.#calls.delete(id);
    clearTimeout(call.timer);
    this.#generations.close(id);
    if (error === undefined) call.queue.end();
    else {
      call.fail(error);
      call.queue.fail(error);
    }
    if (!this.busy) this.#idle();
  }

  /** Starts the time of a call anew. */
  #watch(id: number): void {
    const call = this.#calls.get(id);
    if (call === undefined) return;
    clearTimeout(call.timer);
    call.timer = setTimeout(() => void this.#late(id), this.#options.limits.callMs);
  }

  /** A call is late. A thread that still answers loses this call only; one that does not is replaced. */
  async #late(id: number): Promise<void> {
    const { callMs } = this.#options.limits;
    const error = new AppError('HANDLER_TIMEOUT', `the handler did not answer within ${callMs} ms`);
    const worker = this.#worker;
    this.#send({ type: 'cancel', id, message: error.message });
    const answers = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), PONG_MS);
      this.#pong = () => {
        clearTimeout(timer);
        resolve(true);
      };
      this.#send({ type: 'ping' });
    });
    this.#end(id, error);
    if (answers || worker === undefined || worker !== this.#worker) return;
    this.#options.log.warn({ model: this.#options.model }, 'the handler no longer answers; it is started anew');
    this.#lose(new AppError('HANDLER_CRASHED', 'the handler was ended because another call of it did not end'));
    void worker.terminate();
    this.#restart();
  }

  /** The thread is gone: nothing of it will answer. */
  #lose(error: AppError): void {
    this.#worker = undefined;
    this.#ready = undefined;
    for (const id of [...this.#calls.keys()]) this.#end(id, error);
  }

  #restart(): void {
    if (this.#closed === undefined) this.#thread().catch(() => {});
  }

  /** The thread that runs, or a new one. */
  #thread(): Promise<void> {
    this.#ready ??= this.#start();
    return this.#ready;
  }

  async #start(): Promise<void> {
    const { limits, inference: _, registrations, log, ...options } = this.#options;
    if (this.#closed !== undefined) throw this.#closed;
    // A module that cannot be loaded would otherwise be tried at every request.
    const wait = this.#failedAt + RETRY_MS - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const worker = startThread(
      moduleBeside(import.meta.url, 'worker'),
      { options },
      {
        resourceLimits: { maxOldGenerationSizeMb: Math.max(8, Math.ceil(limits.memoryBytes / 2 ** 20)) },
        stdout: true,
        stderr: true,
      },
    );
    this.#worker = worker;
    const { model, adapter, entryPoint } = options;
    const fields = { model, ...(adapter !== undefined && { adapter }), handler: entryPoint };
    worker.stdout.on('data', (data: Buffer) => log.info(fields, data.toString().trimEnd()));
    worker.stderr.on('data', (data: Buffer) => log.warn(fields, data.toString().trimEnd()));
    let up = false;
    try {
      await new Promise<void>((resolve, reject) => {
        const lost = (error: AppError): void => {
          reject(error);
          if (this.#worker !== worker) return;
          log.warn({ ...fields, reason: error.reason }, error.message);
          this.#lose(error);
          // A module that ends its thread while it is loaded is tried again when it is called, not over and over.
          if (up) this.#restart();
        };
        const late = setTimeout(() => {
          reject(new AppError('HANDLER_TIMEOUT', `the handler did not start within ${START_MS} ms`));
          void worker.terminate();
        }, START_MS);
        worker.on('message', (message: FromHandler) => {
          if (message.type === 'ready') {
            clearTimeout(late);
            this.#functions = new Set(message.functions);
            up = true;
            resolve();
          } else if (message.type === 'failed') {
            clearTimeout(late);
            reject(
              new AppError('HANDLER_CRASHED', `the handler ${options.entryPoint} cannot be loaded: ${message.message}`),
            );
          } else if (this.#worker === worker) this.#receive(message);
        });
        worker.on('error', (error) => lost(crash(error)));
        worker.on('exit', (code) => {
          clearTimeout(late);
          lost(new AppError('HANDLER_CRASHED', `the thread of the handler ended with code ${code}`));
        });
      });
      for (const input of registrations()) await this.#replay(input);
    } catch (error) {
      this.#failedAt = performance.now();
      if (this.#worker === worker) {
        this.#worker = undefined;
        this.#ready = undefined;
        void worker.terminate();
      }
      throw error;
    }
  }

  /** Tells a new thread of an adapter; a refusal is the adapter's own matter. */
  async #replay(input: InputParts): Promise<void> {
    if (!this.has('registerAdapter')) return;
    const call = { requestId: 'restart', signal: new AbortController().signal };
    await this.#call('registerAdapter', input, call).catch((error: AppError) =>
      this.#options.log.warn({ model: this.#options.model, err: error }, 'the handler refused an adapter that it had'),
    );
  }

  #send(message: ToHandler): void {
    this.#worker?.postMessage(message);
  }
}

function crash(error: Error & { code?: unknown }): AppError {
  if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new AppError('HANDLER_OUT_OF_MEMORY', 'the handler ran out of memory; it is started anew');
  }
  return new AppError('HANDLER_CRASHED', `the handler crashed: ${error.message}`, { cause: error });
}

function failed(message: string, status: number | undefined): AppError {
  return new AppError('HANDLER_FAILED', message, status === undefined ? {} : { metadata: { status: String(status) } });
}

function canceled(): AppError {
  return new AppError('CANCELED', 'the client went away');
}

/** What can be sent to another thread. */
function plain({ properties, content }: InputParts): InputParts {
  return { properties: [...properties], content };
}
