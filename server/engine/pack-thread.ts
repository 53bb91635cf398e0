/** A thread that packs a model's converted weights for the sessions to share, and ends. */
import { platform, setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { openModelFolder } from '../model/model-folder.js';
import { firstMessage, startThread } from '../threads.js';
import { makePacked } from './packed-weights.js';

/** The engine and the other threads go first. */
const NICENESS = 10;

interface PackOptions {
  readonly modelDir: string;
  readonly cacheDir: string;
}

/**
 * Packs the weights that the cache has of the model.
 * @returns true if the cache has their packed form now; never throws
 */
export async function packWeights(options: PackOptions, signal?: AbortSignal): Promise<boolean> {
  const worker = startThread(import.meta.url, { pack: options });
  worker.unref();
  const stop = () => void worker.terminate();
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  const packed = await firstMessage<boolean>(worker);
  signal?.removeEventListener('abort', stop);
  return packed === true;
}

async function main({ modelDir, cacheDir }: PackOptions): Promise<void> {
  if (platform() === 'linux') setPriority(0, NICENESS);
  const folder = await openModelFolder(modelDir);
  try {
    parentPort!.postMessage(await makePacked(folder, cacheDir));
  } finally {
    await folder.close();
  }
}

const asked = (workerData as { pack?: PackOptions } | null)?.pack;
if (parentPort !== null && asked !== undefined) await main(asked);
