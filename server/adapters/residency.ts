/**
 * Which adapters' weights the engines hold, within one byte budget for all models. Content is held once per engine and
 * digest, however many names point to it; a lease keeps it where it is; what is neither leased nor pinned makes room
 * for others: what is seldom used, is large, and is soon there again goes first.
 */

import type { AppError } from '../errors.js';
import { ContentNames } from './content-names.js';
import { MemoryRoom, type Room, type RoomOptions } from './memory-room.js';
import type { BoundAdapter } from './types.js';
import { wasteOf } from './use-clock.js';

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
  /** Bytes of the budget that it has; undefined until there is room for it. */
  room: Room | undefined;
  readonly reloadMs: number;
  state: 'loading' | 'ready' | 'unloading';
  leases: number;
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
export interface LoadOptions extends RoomOptions {
  /** Room taken before by {@link Residency.room}; the load owns it from now on. */
  readonly room?: Room | undefined;
  /** What it took to bring the weights here, in milliseconds: what takes longer to bring back stays longer. */
  readonly reloadMs?: number | undefined;
}

/** The adapters that are held. */
export class Residency {
  private readonly memory: MemoryRoom;
  private readonly residents = new Map<string, Resident>();
  private readonly names = new ContentNames();
  private readonly onError: (error: unknown) => void;

  /**
   * @param budget most bytes of all weights together
   * @param maxWaiting how many may wait for room at once
   */
  constructor(budget: number, onError: (error: unknown) => void = () => {}, maxWaiting?: number) {
    const others = { evict: () => this.evict(), pinnedBytes: () => this.pinnedBytes() };
    this.memory = new MemoryRoom(budget, others, maxWaiting);
    this.onError = onError;
  }

  /** Most bytes of all weights together. */
  get budget(): number {
    return this.memory.budget;
  }

  /** Most bytes that content of these keys can have together, beside what is pinned and not among them. */
  roomBeside(keys: readonly ResidentKey[]): number {
    return this.budget - this.pinnedBytes(new Set(keys.map(id)));
  }

  /** Bytes that the engines hold or are about to hold. */
  get bytes(): number {
    return this.memory.used;
  }

  /**
   * Takes room for weights that are still to be read, so that nothing is read that then has no place.
   * @throws AppError ADAPTER_MEMORY_EXHAUSTED with the numbers; QUEUE_FULL
   */
  room(bytes: number, options: RoomOptions = {}): Promise<Room> {
    return this.memory.take(bytes, options);
  }

  /** What is said where bytes find no room, after a wait of so many milliseconds. */
  exhausted(bytes: number, waitedMs: number): AppError {
    return this.memory.exhausted(bytes, waitedMs);
  }

  /** Looks again who of those that wait may have room. */
  look(): void {
    this.memory.changed();
  }

  /** Bytes held for a key; 0 when it is not ready. */
  bytesOf(key: ResidentKey): number {
    const resident = this.residents.get(id(key));
    return resident?.state === 'ready' ? resident.bytes : 0;
  }

  /** Notes that a name points to the content. */
  retain(key: ResidentKey, pinned: boolean): void {
    this.names.add(id(key), pinned);
  }

  /** Notes that a name no longer points there; content without names goes when its last lease ends. */
  forget(key: ResidentKey, pinned: boolean): void {
    if (!this.names.remove(id(key), pinned)) return;
    this.sweep(id(key));
    this.memory.changed();
  }

  /** Leases content that is held or being loaded; undefined if it is neither. Rejects if that load fails. */
  join(key: ResidentKey): Promise<ResidentLease> | undefined {
    const resident = this.residents.get(id(key));
    if (resident === undefined || resident.state === 'unloading') return undefined;
    return this.lease(id(key), resident);
  }

  /** Leases content that is ready, at once; undefined if it is not. */
  take(key: ResidentKey): ResidentLease | undefined {
    const resident = this.residents.get(id(key));
    if (resident?.state !== 'ready') return undefined;
    this.use(id(key), resident);
    return this.held(id(key), resident);
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
      if (resident.state !== 'unloading') {
        options.room?.release();
        return this.lease(key, resident);
      }
      await resident.gone;
    }
    const resident: Resident = {
      engine,
      digest: adapter.digest,
      bytes: adapter.bytes,
      room: undefined,
      reloadMs: options.reloadMs ?? 0,
      state: 'loading',
      leases: 0,
      ready: Promise.resolve(),
      gone: Promise.resolve(),
    };
    this.residents.set(key, resident);
    resident.ready = this.bringIn(key, resident, adapter, options);
    return this.lease(key, resident);
  }

  private use(key: string, resident: Resident): void {
    resident.leases += 1;
    this.names.noteUse(key, this.residents.size);
  }

  private async lease(key: string, resident: Resident): Promise<ResidentLease> {
    this.use(key, resident);
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
    // A use counts when it begins and when it ends: what served a long stream was used lately.
    this.names.noteUse(key, this.residents.size);
    this.sweep(key);
    if (resident.leases === 0) this.memory.changed();
  }

  private async bringIn(key: string, resident: Resident, adapter: BoundAdapter, options: LoadOptions): Promise<void> {
    try {
      resident.room = await this.roomFor(adapter, options);
      await resident.engine.load(adapter);
      resident.state = 'ready';
    } catch (error) {
      this.residents.delete(key);
      resident.room?.release();
      throw error;
    }
  }

  private async roomFor({ bytes }: BoundAdapter, { room, evict, wait, signal }: LoadOptions): Promise<Room> {
    if (room?.bytes === bytes) return room;
    room?.release();
    return this.memory.take(bytes, { evict, wait, signal });
  }

  /** Unloads what is worth least; undefined when everything is in use. */
  private evict(): Promise<void> | undefined {
    let worst: { key: string; resident: Resident; waste: number } | undefined;
    for (const [key, resident] of this.residents) {
      if (resident.state === 'unloading') return resident.gone; // Its bytes are on their way back: wait for them first.
      if (resident.state !== 'ready' || resident.leases > 0) continue;
      if (this.names.isPinned(key)) continue;
      const waste = wasteOf(resident, this.names.usesOf(key));
      if (worst === undefined || waste > worst.waste) worst = { key, resident, waste };
    }
    return worst && this.unload(worst.key, worst.resident);
  }

  private pinnedBytes(except?: ReadonlySet<string>): number {
    let bytes = 0;
    for (const [key, resident] of this.residents) {
      if (except?.has(key) !== true && this.names.isPinned(key)) bytes += resident.bytes;
    }
    return bytes;
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
        this.residents.delete(key);
        resident.room?.release();
      });
    return resident.gone;
  }
}

/** Digests hold no space, so different keys have different ids. */
function id({ pool, digest }: ResidentKey): string {
  return `${digest} ${pool}`;
}
