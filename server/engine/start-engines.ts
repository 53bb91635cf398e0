/** Starts the engine threads of a model, so that they share one packed form of its weights where the cache can hold it. */
import { endThread, moduleBeside, startThread } from '../threads.js';
import { type KeptFile, type KeptWeights, type OnUnkept, removeStale } from './converted-weights.js';
import type { Engine } from './engine.js';
import { EnginePool } from './engine-pool.js';
import { packWeights } from './pack-thread.js';
import { StepMarks } from './step-marks.js';
import type { TeamPlace, WorkerOptions } from './worker.js';
import { type EngineLimits, WorkerEngine } from './worker-engine.js';

/** A lone thread's weights are packed for the next start this long after it is ready: first requests go first. [ms] */
const SETTLE_MS = 1500;

/**
 * Starts the engine of a model. `options` are those of one thread that has the machine to itself; with several the memory
 * of caches is divided among them. Throws MODEL_INVALID with the message of the thread that does not come up; none is left
 * running then.
 * @param count engine threads, >= 1
 * @param signal ends the attempt when it aborts
 * @param onUnkept told once where the folder for converted weights does not take them, maybe after the start
 */
export async function startEngines(
  options: WorkerOptions,
  limits: EngineLimits,
  count: number,
  signal?: AbortSignal,
  onUnkept: OnUnkept = () => {},
): Promise<Engine> {
  if (count === 1) {
    const engine = await startEngine(options, limits, signal);
    if (engine.unkept !== undefined) onUnkept(engine.unkept);
    packLater(options, engine, onUnkept);
    return engine;
  }
  const { kvBytes, prefixBytes = 0 } = options.limits;
  const share = { kvBytes: Math.floor(kvBytes / count), prefixBytes: Math.floor(prefixBytes / count) };
  const working = new SharedArrayBuffer(4 * count);
  const start = (index: number, knownWeights?: KeptFile): Promise<WorkerEngine> => {
    const team: TeamPlace = { threads: Math.max(1, Math.floor(options.threads / count)), working, index };
    const own = { ...options, limits: { ...options.limits, ...share }, team, knownWeights };
    return startEngine(own, limits, signal);
  };
  const first = await start(0);
  if (first.unkept !== undefined) onUnkept(first.unkept);
  const pool = new EnginePool(first, limits);
  try {
    const packed = await pack(options, first.kept, onUnkept, signal);
    // One after another: what a start needs besides the shared weights is never needed twice at once.
    while (pool.size < count) pool.add(await start(pool.size, packed));
  } catch (error) {
    await pool.close();
    throw error;
  }
  return pool;
}

/**
 * Leaves the packed form of the weights in the cache.
 * @param kept what an engine of the model mapped its weights from just now: nobody reads that again
 * @returns the packed form, where the cache has it
 */
async function pack(
  { modelDir, cacheDir, dtype, merge, device }: WorkerOptions,
  kept: KeptWeights | undefined,
  onUnkept: OnUnkept,
  ends?: AbortSignal,
): Promise<KeptFile | undefined> {
  if (cacheDir === undefined || dtype !== 'int8' || merge !== undefined || device?.device === 'webgpu')
    return undefined;
  const packed = kept?.shared
    ? kept.file
    : await packWeights({ modelDir, cacheDir, known: kept?.file }, ends, onUnkept);
  // Where all is kept nobody else looks for what a killed process has left, which may be as much again.
  if (packed !== undefined) removeStale(packed.folder).catch(() => {});
  return packed;
}

function packLater(options: WorkerOptions, engine: WorkerEngine, onUnkept: OnUnkept): void {
  const ends = new AbortController();
  const timer = setTimeout(async () => {
    const packed = await pack(options, engine.kept, onUnkept, ends.signal);
    if (packed !== undefined && !engine.kept?.shared) engine.tellPacked();
  }, SETTLE_MS).unref();
  void engine.stopped.then(() => {
    clearTimeout(timer);
    ends.abort();
  });
}

/**
 * Starts the worker and resolves once the model is ready. Throws MODEL_INVALID with the worker's message.
 * @param signal ends the attempt when it aborts
 */
export async function startEngine(
  options: WorkerOptions,
  limits: EngineLimits,
  signal?: AbortSignal,
): Promise<WorkerEngine> {
  signal?.throwIfAborted();
  const marks = new StepMarks();
  const data = { options: { ...options, marks: marks.memory } };
  const worker = startThread(moduleBeside(import.meta.url, 'worker'), data);
  const engine = new WorkerEngine(worker, limits, marks);
  const stop = () => engine.stop();
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await engine.ready;
  } catch (error) {
    // It may be in the middle of opening a session, which nothing ends.
    if (signal?.aborted) await endThread(worker);
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
  return engine;
}
