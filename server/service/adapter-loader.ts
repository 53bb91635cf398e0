/** Brings a registered adapter's weights into its model's engine, when they are not there already. */

import type { AdapterEntry } from '../adapters/adapter-entry.js';
import { folderState } from '../adapters/file-state.js';
import type { Room } from '../adapters/memory-room.js';
import type { AdapterHost, Residency, ResidentLease } from '../adapters/residency.js';
import { AppError } from '../errors.js';
import { AdapterFiles, type FileParts, type FileWatch } from './adapter-files.js';
import { type LeaseOptions, LeaseSets } from './lease-sets.js';
import { type CallerPatience, LoadWait } from './load-wait.js';
import { LOOK_AGAIN_MS } from './look-again.js';
import { modelOf, type ServedModel } from './served-models.js';

/** Who is told of loads, besides those who wait for them. */
export interface LoadWatch extends FileWatch {
  /** Content has come into an engine, or left it: all names of it are in another state. */
  readonly onContent?: ((pool: string, digest: string) => void) | undefined;
}

/** What a loader works with. */
export interface LoaderParts extends FileParts {
  readonly residency: Residency;
  /** How long rows wait for memory that other rows use, in milliseconds. */
  readonly roomWaitMs: number;
  /** Milliseconds, for what a load took; default: the process's clock. */
  readonly now?: (() => number) | undefined;
}

/** How an entry is loaded. */
interface LoadHow {
  readonly evict: boolean | undefined;
  /** True where it waits for room. */
  readonly patient: boolean;
  readonly callers: LoadWait;
}

/** A load that is under way. */
interface Load extends LoadHow {
  readonly done: Promise<ResidentLease>;
}

/** Reads and loads adapters; concurrent loads of one entry, or of equal content, are one. */
export class AdapterLoader {
  private readonly loads = new Map<AdapterEntry, Load>();
  private readonly models: ReadonlyMap<string, ServedModel>;
  private readonly residency: Residency;
  private readonly files: AdapterFiles;
  private readonly watch: LoadWatch;
  private readonly sets: LeaseSets;
  private readonly now: () => number;

  constructor(parts: LoaderParts, watch: LoadWatch = {}) {
    const { models, residency, roomWaitMs, now } = parts;
    this.models = models;
    this.residency = residency;
    this.files = new AdapterFiles(parts, watch);
    this.watch = watch;
    this.now = now ?? (() => performance.now());
    this.sets = new LeaseSets({
      lease: (entry, options) => this.lease(entry, options),
      isThere: ({ pool, summary }) => summary !== undefined && residency.bytesOf({ pool, digest: summary.digest }) > 0,
      mostBytes: (keys) => residency.roomBeside(keys),
      roomWaitMs,
    });
  }

  /** True while the entry's files are being read or handed over. */
  isLoading(entry: AdapterEntry): boolean {
    return this.loads.has(entry);
  }

  /**
   * Leases the entry's weights, loading them first if need be. Where `waitMs` is given, it waits for room that others
   * use; a load that nobody waits for any more does not.
   * @throws AppError of reading, binding or loading; the signal's reason
   */
  async lease(entry: AdapterEntry, options: LeaseOptions = {}): Promise<ResidentLease> {
    const { summary } = entry;
    const known = this.loads.get(entry);
    const left = known?.callers.signal.aborted === true;
    let waited = false;
    try {
      const held = summary && this.residency.join({ pool: entry.pool, digest: summary.digest });
      if (held !== undefined) return await held;
      if (known !== undefined) {
        // It may be waiting behind others for room that this caller's set keeps from them.
        if (this.sets.isFirst(entry)) this.residency.look();
        waited = known.patient;
        return (await known.callers.join(known.done, options)).again();
      }
    } catch (error) {
      if (options.signal?.aborted) throw error;
      // Who began that load may not have waited for room, as this caller does, or have left before this one came.
      if (!left && (waited || !options.waitMs || !isExhausted(error))) throw error;
      return this.lease(entry, options);
    }
    const callers = new LoadWait();
    const how = { evict: options.evict, patient: Boolean(options.waitMs), callers };
    const done = this.load(entry, how);
    this.loads.set(entry, { ...how, done });
    this.watch.onChange?.(entry);
    done
      .finally(() => {
        this.loads.delete(entry);
        entry.progress = undefined;
        this.watch.onChange?.(entry);
      })
      // Those who wait for this load lease in the same turn; only then may the load's own lease go.
      .then((lease) => setImmediate(() => lease.release()))
      .catch(() => {});
    return (await callers.join(done, options)).again();
  }

  /**
   * Reads the entry's files to know what they are, without loading them.
   * @throws AppError of reading and binding
   */
  async inspect(entry: AdapterEntry): Promise<void> {
    if (entry.summary === undefined) await this.files.read(entry);
  }

  /** Leases what all the entries need where all of it is there; undefined where any is not: then nothing is leased. */
  takeSet(entries: ReadonlySet<AdapterEntry>): Map<AdapterEntry, ResidentLease> | undefined {
    const held = new Map<AdapterEntry, ResidentLease>();
    for (const entry of entries) {
      const { pool, summary } = entry;
      const lease = summary && this.residency.take({ pool, digest: summary.digest });
      if (lease === undefined) {
        for (const taken of held.values()) taken.release();
        return undefined;
      }
      held.set(entry, lease);
    }
    return held;
  }

  /**
   * Leases what all the entries need, or nothing.
   * @throws LeaseFailure with the first failure; the signal's reason
   */
  leaseSet(entries: ReadonlySet<AdapterEntry>, wait: CallerPatience): Promise<Map<AdapterEntry, ResidentLease>> {
    return this.sets.lease(entries, wait);
  }

  private async load(entry: AdapterEntry, how: LoadHow): Promise<ResidentLease> {
    const { evict, patient, callers } = how;
    const bytes = patient ? entry.summary?.bytes : undefined;
    // Room first: what waits for memory must not hold it outside of the budget.
    const room = bytes === undefined ? undefined : await this.waitForRoom(entry, bytes, how);
    let lease: ResidentLease;
    try {
      callers.signal.throwIfAborted();
      const start = this.now();
      const adapter = await this.files.read(entry);
      entry.progress = { stage: 'load', doneBytes: 0, totalBytes: adapter.bytes };
      this.watch.onChange?.(entry);
      const reloadMs = this.now() - start;
      lease = await this.residency.load(entry.pool, this.host(entry), adapter, { evict, room, reloadMs });
      this.watch.onContent?.(entry.pool, adapter.digest);
    } catch (error) {
      entry.failedAt = this.now();
      room?.release();
      // Its bytes are known now, so that it can wait without them. With room of its own it had joined a load of equal
      // content that has none, and does not wait.
      if (isExhausted(error) && patient && entry.summary) return this.load(entry, how);
      throw error;
    }
    entry.loadedAt = Date.now();
    this.retain(entry);
    return lease;
  }

  private waitForRoom(entry: AdapterEntry, bytes: number, { evict, callers }: LoadHow): Promise<Room> {
    const isFirst = () => this.sets.isFirst(entry);
    const room = this.residency.room(bytes, { evict, wait: true, signal: callers.signal, isFirst });
    return callers.forRoom(room, (waitedMs) => this.residency.exhausted(bytes, waitedMs));
  }

  /** Tells those who watch that an entry is in another state. */
  changed(entry: AdapterEntry): void {
    this.watch.onChange?.(entry);
  }

  /**
   * Gives an adapter that failed another try if the files of its folder are not those that failed, or what is elsewhere may
   * have become others: nothing but another look tells. Who wants to use an entry asks for that first.
   */
  async retry(entry: AdapterEntry): Promise<void> {
    if (entry.error === undefined) return;
    if (entry.folder === '') {
      if (this.now() - (entry.failedAt ?? 0) < LOOK_AGAIN_MS) return;
    } else if (entry.folderState === undefined || (await folderState(entry.folder)) === entry.folderState) return;
    entry.error = undefined;
    // Whether they bring a handler is looked at again, too.
    entry.module = undefined;
    this.watch.onChange?.(entry);
  }

  /** The entry's engine, which tells when content has left it. */
  private host(entry: AdapterEntry): AdapterHost {
    const { engine } = modelOf(this.models, entry);
    const { pool } = entry;
    return {
      load: async (adapter) => {
        await engine.load(adapter).catch((error: unknown) => {
          // An engine that was closed is no fault of it.
          modelOf(this.models, entry);
          throw error;
        });
      },
      unload: async (digest) => {
        await engine.unload(digest);
        this.watch.onContent?.(pool, digest);
      },
    };
  }

  /** Ties a registered entry to its content, so that the content stays while a name points to it. */
  retain(entry: AdapterEntry): void {
    if (entry.state !== 'registered' || entry.retained || entry.summary === undefined) return;
    entry.retained = true;
    this.residency.retain({ pool: entry.pool, digest: entry.summary.digest }, entry.pin);
  }

  /** The opposite, for a deleted entry. */
  forget(entry: AdapterEntry): void {
    if (!entry.retained || entry.summary === undefined) return;
    entry.retained = false;
    this.residency.forget({ pool: entry.pool, digest: entry.summary.digest }, entry.pin);
  }
}

const isExhausted = (error: unknown): boolean =>
  error instanceof AppError && error.reason === 'ADAPTER_MEMORY_EXHAUSTED';

/** True for failures that say nothing about the adapter: the next use may try again. */
export function isPassing(error: AppError): boolean {
  return error.spec.retryable || error.reason === 'INTERNAL' || error.reason === 'CANCELED';
}
