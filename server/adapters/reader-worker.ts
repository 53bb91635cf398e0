/**
 * A thread that reads adapters: parsing, hashing, converting and multiplying stay off the main thread, and a hostile
 * file can at worst end this thread. Base weights are asked for; results go back without a copy.
 */
import { parentPort } from 'node:worker_threads';
import { coresAtHand } from '../cgroup.js';
import { AppError } from '../errors.js';
import { Kernels } from '../kernels/kernels.js';
import { buffersOf } from './adapter-arrays.js';
import type { ReadingTools } from './bind.js';
import { type ContentHash, OwnHash } from './content-hash.js';
import { callDirectly } from './file-calls.js';
import { HashThread } from './hash-thread.js';
import { KnownForms } from './known-forms.js';
import { kernelBytes, MatrixCopy } from './matrix-copy.js';
import { plainError } from './plain-error.js';
import { prepareAdapter } from './prepare-adapter.js';
import type { FromReader, ToReader } from './reader-messages.js';
import type { AdapterBase } from './types.js';
import { validateAdapter } from './validate-adapter.js';
import { Windows } from './windows.js';
import { yieldCores } from './yield-cores.js';

yieldCores();
callDirectly();

/** Windows that are filled, converted and hashed at the same time. */
const WINDOWS = 4;

/** Bytes from which on another thread hashes: fewer are hashed before it has been woken twice. */
const WORTH_A_THREAD = 1024 * 1024;

/** Kept for all jobs; there is one at a time. */
const tools = makeTools();

function makeTools(): ReadingTools {
  const known = new KnownForms();
  const alone = coresAtHand() < 2;
  const count = alone ? 2 : WINDOWS;
  const kernels = Kernels.open(kernelBytes(count));
  const copy = new MatrixCopy(kernels);
  // Threads share them.
  const windows = new Windows(count, (bytes) => kernels?.take(bytes) ?? new Uint8Array(new SharedArrayBuffer(bytes)));
  if (alone) return { known, windows, copy, hash: () => new OwnHash() };
  const thread = new HashThread();
  const beside = (): ContentHash => {
    try {
      return thread.begin();
    } catch {
      // The system gives no further thread.
      return new OwnHash();
    }
  };
  beside(); // So that the thread is there when the first adapter is.
  return { known, windows, copy, hash: (bytes) => (bytes < WORTH_A_THREAD ? new OwnHash() : beside()) };
}

const port = parentPort!;
let weights: { resolve(values: Float32Array): void; reject(error: Error): void } | undefined;

function post(message: FromReader, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

/** Asks the main thread for a base weight; jobs ask for one at a time. */
function readWeight(tensor: string): Promise<Float32Array> {
  return new Promise((resolve, reject) => {
    weights = { resolve, reject };
    post({ type: 'weight', tensor });
  });
}

/** The base of the job before is the next one's where that names none. */
let base: AdapterBase | undefined;

function baseOf(message: ToReader & { readonly type: 'read' | 'validate' }): AdapterBase {
  // The same object as long as it is the same base: what is known is known of it.
  if (message.base !== undefined) base = { ...message.base, readWeight };
  return base!;
}

port.on('message', (message: ToReader) => {
  switch (message.type) {
    case 'weight':
      weights?.resolve(message.values);
      return;
    case 'weight-failed':
      weights?.reject(new AppError(message.error.reason ?? 'INTERNAL', message.error.message));
      return;
    case 'read':
      prepareAdapter(message.request, baseOf(message), tools).then(
        (result) => post({ type: 'done', result }, buffersOf(result.adapter)),
        (error: unknown) => post({ type: 'failed', error: plainError(error) }),
      );
      return;
    case 'validate':
      validateAdapter(message.request, baseOf(message), tools).then(
        (result) => post({ type: 'done', result }),
        (error: unknown) => post({ type: 'failed', error: plainError(error) }),
      );
  }
});
