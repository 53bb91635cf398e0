/** The main thread's end of a handler: which thread runs its calls, and a new one, told of the adapters, when one is lost. */
import type { InputParts } from '../../sdk/handler-input.js';
import { AppError } from '../errors.js';
import type { CallContext, InferenceService } from '../service/types.js';
import { HandlerCalls, type HostAnswer } from './handler-calls.js';
import { type HandlerLog, HandlerThread } from './handler-thread.js';
import type { HandlerFunction, HandlerWorkerOptions } from './messages.js';

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
  readonly log: HandlerLog;
}

/** A thread that could not be started is not tried again before this time. */
const RETRY_MS = 1000;

/** The thread that is there, and what it works on. */
interface Running {
  readonly thread: HandlerThread;
  readonly calls: HandlerCalls;
  /** True once it knows the adapters and takes calls. */
  up: boolean;
}

/** One handler. */
export class HandlerHost {
  readonly #options: HostOptions;
  #running: Running | undefined;
  #functions: ReadonlySet<HandlerFunction> = new Set();
  #ready: Promise<HandlerCalls> | undefined;
  #failedAt = Number.NEGATIVE_INFINITY;
  /** What a thread was told of adapters when it was lost: another one that is told the same would be lost, too. */
  readonly #fatal = new Set<string>();
  /** Why no thread is started any more. */
  #closed: AppError | undefined;
  #idle = (): void => {};
  /** Calls that wait for a thread. */
  #waiting = 0;
  /** Why no thread could be started, where the log has that: it is told once, not at each request. */
  #told: string | undefined;

  constructor(options: HostOptions) {
    this.#options = options;
  }

  /** Starts the thread. Throws MODEL_INVALID where the module cannot be loaded or has no `handle`. */
  async start(): Promise<void> {
    try {
      await this.#calls();
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
   *   CANCELED, or the reason of the context's signal
   */
  async call(fn: HandlerFunction, input: InputParts, context: CallContext): Promise<HostAnswer> {
    let answer: Promise<HostAnswer>;
    this.#waiting++;
    try {
      const calls = await this.#callsOrTell();
      answer = calls.run(fn, input, context);
    } finally {
      this.#waiting--;
      this.#look();
    }
    return answer;
  }

  /** True while calls run, or wait for a thread. */
  get busy(): boolean {
    return this.#waiting + (this.#running?.calls.size ?? 0) > 0;
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
    const running = this.#running;
    if (running === undefined) return;
    this.#lose(running, why);
    await running.thread.end();
  }

  /** Tells whoever waits for the last call. */
  #look(): void {
    if (!this.busy) this.#idle();
  }

  /** A call is late. A thread that still answers loses this call only; one that does not is replaced. */
  async #late(running: Running, id: number, error: AppError): Promise<void> {
    const answers = await running.thread.answers();
    running.calls.end(id, error);
    if (answers || running !== this.#running) return;
    this.#warn('the handler no longer answers; it is started anew');
    void running.thread.end();
    const lost = 'the handler was ended because another call of it did not end';
    this.#lose(running, new AppError('HANDLER_CRASHED', lost));
  }

  /** The thread is gone: nothing of it will answer. */
  #lose(running: Running, error: AppError): void {
    if (running === this.#running) this.#forget();
    running.calls.endAll(error);
    // A module that ends its thread while it is loaded is tried again when it is called, not over and over.
    if (running.up && this.#closed === undefined) this.#callsOrTell().catch(() => {});
  }

  #forget(): void {
    this.#running = undefined;
    this.#ready = undefined;
  }

  /** Calls of the thread that runs, or of a new one. */
  #calls(): Promise<HandlerCalls> {
    this.#ready ??= this.#start();
    return this.#ready;
  }

  /** The same, where nobody but the log would tell the operator why there are none. */
  async #callsOrTell(): Promise<HandlerCalls> {
    try {
      const calls = await this.#calls();
      this.#told = undefined;
      return calls;
    } catch (thrown) {
      const { reason, message } = AppError.from(thrown);
      if (this.#closed === undefined && message !== this.#told) {
        this.#told = message;
        this.#warn(`the handler could not be started anew: ${message}`, { reason });
      }
      throw thrown;
    }
  }

  #warn(message: string, more: object = {}): void {
    const { model, adapter, entryPoint, log } = this.#options;
    log.warn({ model, ...(adapter !== undefined && { adapter }), handler: entryPoint, ...more }, message);
  }

  async #start(): Promise<HandlerCalls> {
    // A module that cannot be loaded would otherwise be tried at every request.
    const wait = this.#failedAt + RETRY_MS - performance.now();
    if (wait > 0 && this.#closed === undefined) await new Promise((resolve) => setTimeout(resolve, wait));
    if (this.#closed !== undefined) throw this.#closed;
    const running = this.#begin();
    this.#running = running;
    try {
      this.#functions = await running.thread.loaded;
      for (const input of this.#options.registrations()) {
        const told = JSON.stringify(input.properties);
        if (this.#fatal.has(told)) continue;
        await this.#replay(running, input);
        if (this.#running === running) continue;
        this.#fatal.add(told);
        return this.#calls();
      }
      running.up = true;
    } catch (error) {
      this.#failedAt = performance.now();
      if (this.#running === running) this.#forget();
      void running.thread.end();
      throw error;
    }
    return running.calls;
  }

  #begin(): Running {
    const { limits, inference, registrations: _, log, ...options } = this.#options;
    const thread = new HandlerThread(options, limits.memoryBytes, log, {
      message: (message) => calls.receive(message),
      lost: (error) => {
        // One that was still being started is told with what was wanted of it.
        if (running.up) this.#warn(error.message, { reason: error.reason });
        this.#lose(running, error);
      },
    });
    const { model, adapter } = options;
    const calls: HandlerCalls = new HandlerCalls({
      ...{ model, adapter, inference, callMs: limits.callMs },
      send: (message) => thread.send(message),
      late: (id, error) => void this.#late(running, id, error),
      over: () => this.#look(),
    });
    const running: Running = { thread, calls, up: false };
    return running;
  }

  /** Tells a new thread of an adapter; a refusal is the adapter's own matter. */
  async #replay({ calls }: Running, input: InputParts): Promise<void> {
    if (!this.has('registerAdapter')) return;
    const call = { requestId: 'restart', signal: new AbortController().signal };
    await calls.run('registerAdapter', input, call).catch((err: AppError) => {
      const name = new Map(input.properties).get('name');
      this.#warn(`the handler refused the adapter ${JSON.stringify(name)} that it had`, { err });
    });
  }
}
