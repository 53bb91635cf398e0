/** One thread of a handler: its start, its lines for the log, whether it still answers, and how its loss is noticed. */
import type { Worker } from 'node:worker_threads';
import { AppError } from '../errors.js';
import { moduleBeside, startThread } from '../threads.js';
import type { CallMessage } from './handler-calls.js';
import type { FromHandler, HandlerFunction, HandlerWorkerOptions, ToHandler } from './messages.js';

/** The part of a logger that handlers use. */
export interface HandlerLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Who is told of a thread. */
export interface ThreadEvents {
  /** It says something of its calls. */
  message(message: CallMessage): void;
  /** It is gone, though nobody ended it; told once. */
  lost(error: AppError): void;
}

/** How long a thread may take to say that it still runs. */
const PONG_MS = 1000;
/** Time for a module to be loaded. */
const START_MS = 60_000;

/** A thread, from its start to its end. */
export class HandlerThread {
  /**
   * Resolves with the functions that the handler has, once it takes calls. Rejects with HANDLER_CRASHED, HANDLER_TIMEOUT or
   * HANDLER_OUT_OF_MEMORY; then the thread is gone, or goes.
   */
  readonly loaded: Promise<ReadonlySet<HandlerFunction>>;
  readonly #worker: Worker;
  /** True: nobody needs to be told of its end. */
  #over = false;
  /** What all who asked for a sign of life wait for; absent = nobody does. */
  #asked: Promise<boolean> | undefined;
  #pong = (): void => {};

  /** @param memoryBytes its heap */
  constructor(options: HandlerWorkerOptions, memoryBytes: number, log: HandlerLog, events: ThreadEvents) {
    const worker = startThread(
      moduleBeside(import.meta.url, 'worker'),
      { options },
      {
        resourceLimits: { maxOldGenerationSizeMb: Math.max(8, Math.ceil(memoryBytes / 2 ** 20)) },
        stdout: true,
        stderr: true,
      },
    );
    this.#worker = worker;
    const { model, adapter, entryPoint } = options;
    const fields = { model, ...(adapter !== undefined && { adapter }), handler: entryPoint };
    worker.stdout.on('data', (data: Buffer) => log.info(fields, data.toString().trimEnd()));
    worker.stderr.on('data', (data: Buffer) => log.warn(fields, data.toString().trimEnd()));
    this.loaded = new Promise((resolve, reject) => {
      const lost = (error: AppError): void => {
        clearTimeout(late);
        reject(error);
        if (this.#over) return;
        this.#over = true;
        events.lost(error);
      };
      const late = setTimeout(() => {
        reject(new AppError('HANDLER_TIMEOUT', `the handler did not start within ${START_MS} ms`));
        void this.end();
      }, START_MS);
      worker.on('message', (message: FromHandler) => {
        if (message.type === 'ready') {
          clearTimeout(late);
          resolve(new Set(message.functions));
        } else if (message.type === 'failed') {
          clearTimeout(late);
          reject(new AppError('HANDLER_CRASHED', `the handler ${entryPoint} cannot be loaded: ${message.message}`));
          void this.end();
        } else if (message.type === 'pong') this.#pong();
        else if (!this.#over) events.message(message);
      });
      worker.on('error', (error) => lost(crash(error)));
      worker.on('exit', (code) =>
        lost(new AppError('HANDLER_CRASHED', `the thread of the handler ended with code ${code}`)),
      );
    });
  }

  /** Sends a message; one to a thread that is gone is lost with it. */
  send(message: ToHandler): void {
    this.#worker.postMessage(message);
  }

  /** True where the thread still comes round to messages. */
  answers(): Promise<boolean> {
    this.#asked ??= new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), PONG_MS);
      this.#pong = () => {
        clearTimeout(timer);
        resolve(true);
      };
      this.send({ type: 'ping' });
    }).finally(() => {
      this.#asked = undefined;
    });
    return this.#asked;
  }

  /** Ends it, whatever it does. */
  async end(): Promise<void> {
    this.#over = true;
    await this.#worker.terminate();
  }
}

function crash(error: Error & { code?: unknown }): AppError {
  if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new AppError('HANDLER_OUT_OF_MEMORY', 'the handler ran out of memory; it is started anew');
  }
  return new AppError('HANDLER_CRASHED', `the handler crashed: ${error.message}`, { cause: error });
}
