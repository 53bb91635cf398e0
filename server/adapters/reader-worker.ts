/**
 * A thread that reads adapters: parsing, hashing, converting and multiplying stay off the main thread, and a hostile
 * file can at worst end this thread. Base weights are asked for; results go back without a copy.
 */
import { platform, setPriority } from 'node:os';
import { parentPort } from 'node:worker_threads';
import { AppError } from '../errors.js';
import { forEachArray } from './assemble.js';
import { prepareAdapter } from './prepare-adapter.js';
import type { FromReader, PlainError, ToReader } from './reader-messages.js';
import type { BoundAdapter } from './types.js';
import { validateAdapter } from './validate-adapter.js';

/** A tenth of what answering threads get where cores are scarce: streams keep their pace while adapters load. */
const NICENESS = 10;
// On Linux a priority is a thread's; elsewhere it would be the whole process's.
if (platform() === 'linux') setPriority(0, NICENESS);

const port = parentPort!;
let weights: { resolve(values: Float32Array): void; reject(error: Error): void } | undefined;

function post(message: FromReader, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

function plain(error: unknown): PlainError {
  if (error instanceof AppError) {
    return { reason: error.reason, message: error.message, metadata: error.metadata };
  }
  return {
    reason: undefined,
    message: error instanceof Error ? (error.stack ?? error.message) : String(error),
    metadata: {},
  };
}

/** Asks the main thread for a base weight; jobs ask for one at a time. */
function readWeight(tensor: string): Promise<Float32Array> {
  return new Promise((resolve, reject) => {
    weights = { resolve, reject };
    post({ type: 'weight', tensor });
  });
}

function buffersOf(adapter: BoundAdapter): ArrayBuffer[] {
  const buffers = new Set<ArrayBuffer>();
  forEachArray(adapter, ({ buffer }) => {
    if (buffer instanceof ArrayBuffer) buffers.add(buffer);
  });
  return [...buffers];
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
      prepareAdapter(message.request, { ...message.base, readWeight }).then(
        (result) => post({ type: 'done', result }, buffersOf(result.adapter)),
        (error: unknown) => post({ type: 'failed', error: plain(error) }),
      );
      return;
    case 'validate':
      validateAdapter(message.request, { ...message.base, readWeight }).then(
        (result) => post({ type: 'done', result }),
        (error: unknown) => post({ type: 'failed', error: plain(error) }),
      );
  }
});
