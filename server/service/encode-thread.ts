/**
 * Encoding of long texts beside the thread that answers everybody: a megabyte takes seconds. The thread has the model's
 * tokenizer from what was read of the same files, so the ids are those that encoding here would give, whatever kind of tokenizer
 * it is, and whatever the folder has become.
 */
import type { Worker } from 'node:worker_threads';
import { revivedError } from '../adapters/plain-error.js';
import { noThreadNow } from '../adapters/unreadable.js';
import { AppError } from '../errors.js';
import type { KeptFiles } from '../text/text-files.js';
import { moduleBeside, startThread } from '../threads.js';
import type { EncodeAside, EncodedText, EncodeJob, FromEncoder } from './encode-messages.js';

/** The tokenizer of a large vocabulary takes much memory, so a thread that has nothing to do ends. */
const IDLE_MS = 60_000;

interface Waiting {
  readonly job: EncodeJob;
  resolve(encoded: EncodedText): void;
  reject(error: unknown): void;
}

/** Encodes for one model, text by text. */
export class EncodeThread {
  readonly #files: KeptFiles;
  readonly #waiting: Waiting[] = [];
  #worker: Worker | undefined;
  #current: Waiting | undefined;
  #idle: NodeJS.Timeout | undefined;
  #closed = false;

  /** @param files what the model's own tokenizer was made of; nothing is started before the first text */
  constructor(files: KeptFiles) {
    this.#files = files;
  }

  /** Encodes a text when those before it are done. One that nobody waits for any more is given up. */
  readonly encode: EncodeAside = (job, signal) => {
    if (this.#closed) return Promise.reject(ended());
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const settle = (): void => signal?.removeEventListener('abort', abort);
      const waiting: Waiting = {
        job,
        resolve: (encoded) => {
          settle();
          resolve(encoded);
        },
        reject: (error) => {
          settle();
          reject(error);
        },
      };
      const abort = (): void => this.#giveUp(waiting, signal!.reason);
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting.push(waiting);
      this.#next();
    });
  };

  /** Ends the thread; who waits is told so. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(ended());
    this.#current?.reject(ended());
    await this.#end();
  }

  #next(): void {
    if (this.#current !== undefined) return;
    clearTimeout(this.#idle);
    this.#current = this.#waiting.shift();
    if (this.#current === undefined) {
      this.#idle = setTimeout(() => void this.#end(), IDLE_MS);
      this.#idle.unref();
      return;
    }
    try {
      this.#worker ??= this.#start();
      this.#worker.postMessage(this.#current.job);
    } catch (error) {
      // The system gives no thread now, or no memory for one; whoever comes next tries again.
      this.#current.reject(notStarted(error) ?? error);
      this.#current = undefined;
      this.#next();
    }
  }

  #giveUp(waiting: Waiting, reason: unknown): void {
    waiting.reject(reason);
    if (this.#current !== waiting) {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      return;
    }
    // Nothing else ends an encoding.
    void this.#end();
    this.#next();
  }

  async #end(): Promise<void> {
    clearTimeout(this.#idle);
    const worker = this.#worker;
    this.#worker = undefined;
    this.#current = undefined;
    await worker?.terminate();
  }

  #start(): Worker {
    const worker = startThread(moduleBeside(import.meta.url, 'encode-worker'), { files: this.#files });
    const done = (settle: (waiting: Waiting | undefined) => void): void => {
      if (this.#worker !== worker) return;
      const current = this.#current;
      this.#current = undefined;
      settle(current);
      this.#next();
    };
    worker.on('message', (answer: FromEncoder) =>
      done((waiting) => {
        if (answer.type === 'done') waiting?.resolve(answer.encoded);
        else waiting?.reject(revivedError(answer.error));
      }),
    );
    const gone = (error: Error): void =>
      done((waiting) => {
        this.#worker = undefined;
        waiting?.reject(outOfMemory(error) ?? notStarted(error) ?? error);
      });
    worker.on('error', gone);
    worker.on('exit', () => gone(new Error('the thread that encodes long texts ended')));
    return worker;
  }
}

function ended(): AppError {
  return new AppError('SHUTTING_DOWN', 'the model is being unloaded');
}

const notStarted = (error: unknown) => noThreadNow('the thread that reads long texts', error);

function outOfMemory(cause: Error): AppError | undefined {
  if ((cause as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') return undefined;
  return new AppError('PAYLOAD_TOO_LARGE', 'the prompt is too long to be read in the memory at hand', { cause });
}
