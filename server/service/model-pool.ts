/**
 * Engines by what they run: models of several names with equal files and settings share one. An engine ends with its
 * last lease, after the answers that still run on it.
 */
import { realPathOf } from '../adapters/real-path.js';
import { AppError } from '../errors.js';
import { threadsEnded } from '../threads.js';
import type { LoadModelOptions } from './load-model.js';
import type { ModelUses } from './model-uses.js';
import type { LoadedModel } from './ports.js';

/** A held engine. */
export interface PooledModel {
  /** Equal for leases of one engine; another one that runs the same later has another. */
  readonly key: string;
  /** The model under the name that the lease was taken for. */
  readonly model: LoadedModel;
  /** Gives the engine back; resolves when it has ended, if this was its last lease. Idempotent. */
  release(): Promise<void>;
}

/** Loads a model; ends the attempt when the signal aborts. */
export type LoadModel = (options: LoadModelOptions, signal: AbortSignal) => Promise<LoadedModel>;

interface Pooled {
  readonly id: number;
  readonly loading: Promise<LoadedModel>;
  readonly stop: AbortController;
  leases: number;
  closing?: Promise<void>;
}

/** What makes two models the same engine: everything but the name, whichever links the path goes through. */
export function poolKey({ name: _, path, ...rest }: LoadModelOptions): string {
  return JSON.stringify(Object.entries({ ...rest, path: realPathOf(path) }).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The running engines. */
export class ModelPool {
  readonly #load: LoadModel;
  readonly #uses: ModelUses;
  readonly #drainMs: number;
  readonly #pooled = new Map<string, Pooled>();
  #started = 0;

  /** @param drainMs how long the end of an engine waits for running answers before it cancels them */
  constructor(load: LoadModel, uses: ModelUses, drainMs: number) {
    this.#load = load;
    this.#uses = uses;
    this.#drainMs = drainMs;
  }

  /** Number of engines that run, load or end. */
  get size(): number {
    return this.#pooled.size;
  }

  /**
   * Leases the engine of a model, loading it if nobody has it; concurrent loads are one.
   * @throws AppError MODEL_INVALID; the signal's reason when it aborts, and then the load ends if nobody else waits
   */
  async lease(options: LoadModelOptions, signal: AbortSignal): Promise<PooledModel> {
    const key = poolKey(options);
    for (;;) {
      signal.throwIfAborted();
      const closing = this.#pooled.get(key)?.closing;
      if (closing === undefined) break;
      await closing;
    }
    const pooled = this.#pooled.get(key) ?? this.#start(key, options);
    pooled.leases += 1;
    let loaded: LoadedModel;
    try {
      loaded = await orAborted(pooled.loading, signal);
    } catch (error) {
      pooled.leases -= 1;
      if (pooled.leases === 0) this.#stop(key, pooled, error);
      throw error;
    }
    let held = true;
    return {
      key: `${key} ${pooled.id}`,
      model: named(loaded, options.name),
      release: async () => {
        if (!held) return;
        held = false;
        pooled.leases -= 1;
        await this.#endIfUnused(key, pooled, loaded);
      },
    };
  }

  /** Ends all engines at once, whoever has leases. */
  async close(): Promise<void> {
    await Promise.all(
      Array.from(this.#pooled.values(), async (pooled) => {
        pooled.stop.abort(new AppError('SHUTTING_DOWN', 'the server is shutting down'));
        await pooled.loading.then(({ close }) => close()).catch(() => {});
      }),
    );
    this.#pooled.clear();
    await threadsEnded();
  }

  /** Ends a load that nobody waits for. Who wants the model again meanwhile gets another load, after this one. */
  #stop(key: string, pooled: Pooled, reason: unknown): void {
    pooled.stop.abort(reason);
    const ended = pooled.loading.then(
      ({ close }) => close(),
      () => {},
    );
    pooled.closing ??= ended.finally(() => this.#pooled.delete(key));
  }

  #start(key: string, options: LoadModelOptions): Pooled {
    const stop = new AbortController();
    this.#started += 1;
    const pooled: Pooled = { id: this.#started, loading: this.#load(options, stop.signal), stop, leases: 0 };
    this.#pooled.set(key, pooled);
    pooled.loading.then(
      // Those who waited may all have left while the load came to its end.
      (loaded) => setImmediate(() => void this.#endIfUnused(key, pooled, loaded)),
      () => this.#pooled.delete(key),
    );
    return pooled;
  }

  async #endIfUnused(key: string, pooled: Pooled, { engine, close }: LoadedModel): Promise<void> {
    if (pooled.leases > 0) return;
    await this.#uses.idle(engine, this.#drainMs);
    // Meanwhile somebody may have leased it again, or another end may be under way.
    if (pooled.leases > 0) return;
    pooled.closing ??= close().finally(() => this.#pooled.delete(key));
    await pooled.closing;
  }
}

/** The same engine as a model of another name. */
function named(model: LoadedModel, name: string): LoadedModel {
  const { info } = model;
  if (info.name === name) return model;
  return {
    ...model,
    info: {
      ...info,
      name,
      get ready() {
        return info.ready;
      },
      get device() {
        return info.device;
      },
    },
  };
}

async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let leave: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    leave = () => reject(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', leave!);
  }
}
