/** A thread that packs a model's converted weights for the sessions to share, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { yieldCores } from '../adapters/yield-cores.js';
import { openModelFolder } from '../model/model-folder.js';
import { endThread, firstMessage, startThread, tryThread } from '../threads.js';
import type { KeptFile, OnUnkept, Unkept } from './converted-weights.js';
import { makePacked } from './packed-weights.js';

interface PackOptions {
  readonly modelDir: string;
  readonly cacheDir: string;
  /** The converted weights as the engine found or wrote them; absent = they are looked for. */
  readonly known?: KeptFile | undefined;
}

/** What the thread says at its end. */
interface Packed {
  readonly packed: KeptFile | undefined;
  readonly unkept: Unkept | undefined;
}

/**
 * Packs the weights that the cache has of the model.
 * @param onUnkept told where the cache has weights and does not take their packed form
 * @returns their packed form if the cache has it now; never throws
 */
export async function packWeights(
  options: PackOptions,
  signal?: AbortSignal,
  onUnkept?: OnUnkept,
): Promise<KeptFile | undefined> {
  const worker = tryThread(() => startThread(import.meta.url, { pack: options }));
  if (worker === undefined) return undefined;
  worker.unref();
  const stop = () => void endThread(worker);
  signal?.addEventListener('abort', stop, { once: true });
  if (signal?.aborted) stop();
  const said = await firstMessage<Packed>(worker);
  signal?.removeEventListener('abort', stop);
  if (said?.unkept !== undefined) onUnkept?.(said.unkept);
  return said?.packed;
}

async function main({ modelDir, cacheDir, known }: PackOptions): Promise<void> {
  yieldCores();
  const folder = await openModelFolder(modelDir);
  try {
    let unkept: Unkept | undefined;
    const packed = await makePacked(folder, cacheDir, known, (one) => {
      unkept = one;
    });
    parentPort!.postMessage({ packed, unkept } satisfies Packed);
  } finally {
    await folder.close();
  }
}

const asked = (workerData as { pack?: PackOptions } | null)?.pack;
if (parentPort !== null && asked !== undefined) await main(asked);
