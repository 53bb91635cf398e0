/**
 * Which adapters' weights the engines hold, within one byte budget for all models. Content is held once per engine and
 * digest, however many names point to it; a lease keeps it where it is; what is neither leased nor pinned makes room
 * for others, least recently used first.
 */
import { AppError } from '../errors.js';
import type { BoundAdapter } from './types.js';

/** What holds the weights: the part of an engine that loads and unloads them. */
export interface AdapterHost {
  load(adapter: BoundAdapter): Promise<void>;
  unload(digest: string): Promise<void>;
}

/** Where an adapter is held: one engine and a digest. */
export interface ResidentKey {
  /** Key of the engine: models of several names may share one. */
  readonly pool: string;
  readonly digest: string;
}

interface Resident {
  readonly engine: AdapterHost;
  readonly digest: string;
  readonly bytes: number;
  state: 'loading' | 'ready' | 'unloading';
  leases: number;
  lastUse: number;
  /** Resolves when loading is over; rejects if it failed. */
  ready: Promise<void>;
  /** Resolves when unloading is over. */
  gone: Promise<void>;
}

/** A held lease. */
export interface ResidentLease {
  readonly bytes: number;
  /** Another lease on the same content. */
  again(): ResidentLease;
  /** Idempotent. */
  release(): void;
}

/** How a load may make room. */
export interface LoadOptions {
  /** False: fail rather than evict another adapter. Default true. */
  readonly evict?: boolean | undefined;
}

/** The adapters that are held. */
export class Residency {
  readonly budget: number;
  private readonly residents = new Map<string, Resident>();
  /** Names per key: how many point there, and how many of them are pinned. */
  private readonly names = new Map<string, { refs: number; pins: number }>();
  private usedBytes = 0;
  private clock = 0;
  /** Tail of the queue of admissions: one makes room at a time. */
  private admission: Promise<unknown> = Promise.resolve();
  private readonly onError: (error: unknown) => void;

  /** @param budget most bytes of all weights together */
  constructor(budget: number, onError: (error: unknown) => void = () => {}) {
    this.budget = budget;
    this.onError = onError;
  }

  /** Bytes that the engines hold or are about to hold. */
  get bytes(): number {
    return this.usedBytes;
  }

  /** Bytes held for a key; 0 when it is not ready. */
  bytesOf(key: ResidentKey): number {
    const resident = this.residents.get(id(key));
    return resident?.state === 'ready' ? resident.bytes : 0;
  }

  /** Notes that a name points to the content. */
  retain(key: ResidentKey, pinned: boolean): void {
    const names = this.names.get(id(key)) ?? { refs: 0, pins: 0 };
    this.names.set(id(key), { refs: names.refs + 1, pins: names.pins + (pinned ? 1 : 0) });
  }

  /** Notes that a name no longer points there; content without names goes when its last lease ends. */
  forget(key: ResidentKey, pinned: boolean): void {
    const names = this.names.get(id(key));
    if (names === undefined) return;
    if (names.refs <= 1) this.names.delete(id(key));
    else this.names.set(id(key), { refs: names.refs - 1, pins: names.pins - (pinned ? 1 : 0) });
    this.sweep(id(key));
  }

  /** Leases content that is held or being loaded; undefined if it is neither. Rejects if that load fails. */
  join(key: ResidentKey): Promise<ResidentLease> | undefined {
    const resident = this.residents.get(id(key));
    if (resident === undefined || resident.state === 'unloading') return undefined;
    return this.lease(id(key), resident);
  }

  /**
   * Leases content, handing it to the engine unless it is held already; concurrent loads of a digest become one.
   * @throws AppError ADAPTER_MEMORY_EXHAUSTED with the numbers, or what the engine throws
   */
  async load(
    pool: string,
    engine: AdapterHost,
    adapter: BoundAdapter,
    options: LoadOptions = {},
  ): Promise<ResidentLease> {
    const key = id({ pool, digest: adapter.digest });
    for (;;) {
      const resident = this.residents.get(key);
      if (resident === undefined) break;
      if (resident.state !== 'unloading') return this.lease(key, resident);
      await resident.gone;
    }
    const resident: Resident = {
      engine,
      digest: adapter.digest,
      bytes: adapter.bytes,
      state: 'loading',
      leases: 0,
      lastUse: 0,
      ready: Promise.resolve(),
      gone: Promise.resolve(),
    };
    this.residents.set(key, resident);
    resident.ready = this.bringIn(key, resident, adapter, options.evict ?? true);
    return this.lease(key, resident);
  }

  private async lease(key: string, resident: Resident): Promise<ResidentLease> {
    resident.leases += 1;
    this.clock += 1;
    resident.lastUse = this.clock;
    await resident.ready; // On failure the resident is gone already, and its leases with it.
    return this.held(key, resident);
  }

  /** A lease whose count was taken before. */
  private held(key: string, resident: Resident): ResidentLease {
    let held = true;
    return {
      bytes: resident.bytes,
      again: () => {
        resident.leases += 1;
        return this.held(key, resident);
      },
      release: () => {
        if (held) this.drop(key, resident);
        held = false;
      },
    };
  }

  private drop(key: string, resident: Resident): void {
    resident.leases -= 1;
    this.clock += 1;
    resident.lastUse = this.clock;
    this.sweep(key);
  }

  private async bringIn(key: string, resident: Resident, adapter: BoundAdapter, evict: boolean): Promise<void> {
    const turn = this.admission.then(() => this.makeRoom(resident.bytes, evict));
    this.admission = turn.catch(() => {});
    try {
      await turn;
    } catch (error) {
      this.residents.delete(key);
      throw error;
    }
    try {
      await resident.engine.load(adapter);
      resident.state = 'ready';
    } catch (error) {
      this.usedBytes -= resident.bytes;
      this.residents.delete(key);
      throw error;
    }
  }

  /** Unloads others until `bytes` fit, and takes them from the budget. */
  private async makeRoom(bytes: number, evict: boolean): Promise<void> {
    while (this.usedBytes + bytes > this.budget) {
      const victim = evict && bytes <= this.budget ? this.leastRecentlyUsed() : undefined;
      if (victim === undefined) throw this.exhausted(bytes);
      await this.unload(victim[0], victim[1]);
    }
    this.usedBytes += bytes;
  }

  private leastRecentlyUsed(): readonly [string, Resident] | undefined {
    let oldest: readonly [string, Resident] | undefined;
    for (const entry of this.residents) {
      const [key, resident] = entry;
      if (resident.state === 'unloading') return entry; // Its bytes are on their way back: wait for them first.
      if (resident.state !== 'ready' || resident.leases > 0) continue;
      if ((this.names.get(key)?.pins ?? 0) > 0) continue;
      if (oldest === undefined || resident.lastUse < oldest[1].lastUse) oldest = entry;
    }
    return oldest;
  }

  private exhausted(bytes: number): AppError {
    const { usedBytes, budget } = this;
    return new AppError(
      'ADAPTER_MEMORY_EXHAUSTED',
      `the adapter needs ${bytes} bytes; of the budget of ${budget} bytes ${usedBytes} are taken by adapters that are ` +
        'in use, pinned or being loaded',
      { metadata: { needed: String(bytes), used: String(usedBytes), budget: String(budget) }, retryAfterMs: 1000 },
    );
  }

  /** Unloads content that nobody names or leases any more. */
  private sweep(key: string): void {
    const resident = this.residents.get(key);
    if (resident?.state === 'ready' && resident.leases === 0 && !this.names.has(key)) void this.unload(key, resident);
  }

  private unload(key: string, resident: Resident): Promise<void> {
    if (resident.state === 'unloading') return resident.gone;
    resident.state = 'unloading';
    resident.gone = resident.engine
      .unload(resident.digest)
      .catch(this.onError)
      .then(() => {
        this.usedBytes -= resident.bytes;
        this.residents.delete(key);
      });
    return resident.gone;
  }
}

function id(key: ResidentKey): string {
  return JSON.stringify([key.pool, key.digest]);
}
