/** A thread that packs a model's converted weights for the sessions to share, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { yieldCores } from '../adapters/yield-cores.js';
import { openModelFolder } from '../model/model-folder.js';
import { endThread, firstMessage, startThread } from '../threads.js';
import type { KeptFile } from './converted-weights.js';
import { makePacked } from './packed-weights.js';

interface PackOptions {
  readonly modelDir: string;
  readonly cacheDir: string;
  /** The converted weights as the engine found or wrote them; absent = they are looked for. */
  readonly known?: KeptFile | undefined;
}

/**
 * Packs the weights that the cache has of the model.
 * @returns their packed form if the cache has it now; never throws
 */
export async function packWeights(options: PackOptions, signal?: AbortSignal): Promise<KeptFile | undefined> {
  const worker = startThread(import.meta.url, { pack: options });
  worker.unref();
  const stop = () => void endThread(worker);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  const packed = await firstMessage<KeptFile | undefined>(worker);
  signal?.removeEventListener('abort', stop);
  return packed;
}

async function main({ modelDir, cacheDir, known }: PackOptions): Promise<void> {
  yieldCores();
  const folder = await openModelFolder(modelDir);
  try {
    parentPort!.postMessage(await makePacked(folder, cacheDir, known));
  } finally {
    await folder.close();
  }
}

const asked = (workerData as { pack?: PackOptions } | null)?.pack;
if (parentPort !== null && asked !== undefined) await main(asked);
