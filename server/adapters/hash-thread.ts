/**
 * Hashing beside reading: SHA-256 takes as long as all else that is done with an adapter's bytes, so where there is a
 * second core a thread of its own does it.
 */
import type { Worker } from 'node:worker_threads';
import { moduleBeside, startThread } from '../threads.js';
import type { ContentHash } from './content-hash.js';
import type { FromHasher, ToHasher } from './hash-worker.js';

/** A thread that makes one hash at a time. */
export class HashThread {
  private worker: Worker | undefined;
  private readonly waiting: { resolve(answer: FromHasher): void; reject(error: Error): void }[] = [];

  /** A new hash; the one before is given up. The thread comes up with the first one. */
  begin(): ContentHash {
    this.send({ type: 'begin' });
    return {
      update: async (parts) => {
        await this.ask({ type: 'update', parts });
      },
      finish: () => this.ask({ type: 'finish' }),
    };
  }

  private ask(message: ToHasher): Promise<FromHasher> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.send(message);
    });
  }

  private send(message: ToHasher): void {
    this.worker ??= this.start();
    this.worker.postMessage(message);
  }

  private start(): Worker {
    const worker = startThread(moduleBeside(import.meta.url, 'hash-worker'));
    const gone = (error: Error) => {
      if (this.worker === worker) this.worker = undefined;
      for (const { reject } of this.waiting.splice(0)) reject(error);
    };
    worker.on('message', (answer: FromHasher) => this.waiting.shift()?.resolve(answer));
    worker.on('error', gone);
    worker.on('exit', () => gone(new Error('the hashing thread ended')));
    return worker;
  }
}
