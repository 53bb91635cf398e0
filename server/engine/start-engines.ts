/** Starts the engine threads of a model: the first one before the model answers, others beside it when they cost little. */
import type { Engine } from './engine.js';
import { EnginePool } from './engine-pool.js';
import { packWeights } from './pack-thread.js';
import type { TeamPlace, WorkerOptions } from './worker.js';
import { type EngineLimits, startEngine } from './worker-engine.js';

/** After the first thread is ready the others wait this long: first requests have the machine to themselves. [ms] */
const SETTLE_MS = 1500;

/** How many engine threads a model gets. */
export interface EngineCount {
  readonly count: number;
  /** True: further threads come only if they share the weights in memory. */
  readonly onlyShared: boolean;
}

/**
 * Starts the engine of a model. `options` are those of one thread that has the machine to itself; the caches' memory is
 * divided among the threads. Throws MODEL_INVALID with the first thread's message.
 * @param signal ends the attempt when it aborts
 */
export async function startEngines(
  options: WorkerOptions,
  limits: EngineLimits,
  { count, onlyShared }: EngineCount,
  signal?: AbortSignal,
): Promise<Engine> {
  if (count === 1) return startEngine(options, limits, signal);
  const loopLimits = {
    ...options.limits,
    maxPositions: Math.floor(options.limits.maxPositions / count),
    prefixBytes: Math.floor((options.limits.prefixBytes ?? 0) / count),
  };
  const working = new SharedArrayBuffer(4 * count);
  const start = (index: number, ends?: AbortSignal) => {
    const team: TeamPlace = { threads: Math.max(1, Math.floor(options.threads / count)), working, index };
    return startEngine({ ...options, limits: loopLimits, team }, limits, ends);
  };
  const pool = new GrowingPool(await start(0, signal), { ...limits, maxPositions: loopLimits.maxPositions });
  const { modelDir, cacheDir } = options;
  // A thread that does not come up leaves those that are there.
  void pool
    .grow(async (ends) => {
      const packed = cacheDir !== undefined && (await packWeights({ modelDir, cacheDir }, ends));
      if (onlyShared && !packed) return;
      for (let index = 1; index < count && !ends.aborted; index += 1) pool.add(await start(index, ends));
    })
    .catch(() => {});
  return pool;
}

/** A pool that others join until it closes. */
class GrowingPool extends EnginePool {
  readonly #closing = new AbortController();
  #growing: Promise<void> | undefined;

  grow(join: (ends: AbortSignal) => Promise<void>): Promise<void> {
    const ends = this.#closing.signal;
    const settled = new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, SETTLE_MS).unref();
      ends.addEventListener('abort', () => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.#growing = settled.then(() => (ends.aborted || !this.alive ? undefined : join(ends)));
    return this.#growing;
  }

  override async close(): Promise<void> {
    this.#closing.abort();
    await this.#growing?.catch(() => {});
    await super.close();
  }
}
