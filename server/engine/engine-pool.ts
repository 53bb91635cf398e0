/**
 * Several engine threads of one model as one engine. Most nodes of a decode step are too small to be divided among
 * cores, so threads that work on different rows side by side do more than one thread that divides every step
 * (docs/decisions/0027). Each has its own rows, caches, prefixes and scheduler; an adapter lives on one of them and is
 * copied to another when its rows are more than that one's share.
 */
import type { BoundAdapter } from '../adapters/types.js';
import { AppError } from '../errors.js';
import { checkPositions, checkQueue } from './admission.js';
import type { Engine, EngineRow, RowHandle, RowListener } from './engine.js';
import { EngineRouter, leastBusy, type Member } from './engine-router.js';
import type { EndEvent, EngineStats } from './messages.js';
import { refusal } from './row.js';
import { stallError } from './stall-watch.js';
import type { EngineLimits, WorkerEngine } from './worker-engine.js';

/** An engine thread and what the pool knows of it. */
interface PoolMember extends Member {
  readonly engine: WorkerEngine;
  readonly adapters: Set<string>;
  /** Copies on their way here. */
  readonly arriving: Map<string, Promise<void>>;
}

/** Engine threads that may become more while they run. */
export class EnginePool implements Engine {
  readonly stopped: Promise<void>;
  readonly #members: PoolMember[] = [];
  readonly #router = new EngineRouter<PoolMember>();
  readonly #limits: EngineLimits;
  /** Adapters that were loaded and not unloaded since. */
  readonly #loaded = new Set<string>();
  readonly #onStall: (() => void)[] = [];
  #failure: string | undefined;
  #closing = false;
  #tellStopped: () => void = () => {};

  /** @param limits hold for all threads together */
  constructor(first: WorkerEngine, limits: EngineLimits) {
    this.#limits = limits;
    this.stopped = new Promise((resolve) => {
      this.#tellStopped = resolve;
    });
    this.#enter(first);
  }

  get alive(): boolean {
    return this.#members.every(({ engine }) => engine.alive);
  }

  get failure(): string | undefined {
    return this.#failure ?? this.#members.find(({ engine }) => !engine.alive)?.engine.failure;
  }

  /** Of the first thread that does not move: what is on it, others cannot have, so the model takes no rows meanwhile. */
  get stalled(): string | undefined {
    return this.#members.find(({ engine }) => engine.stalled !== undefined)?.engine.stalled;
  }

  onStall(listener: () => void): void {
    this.#onStall.push(listener);
  }

  get maxRowTokens(): number {
    return this.#members[0]!.engine.maxRowTokens;
  }

  get device(): Engine['device'] {
    return this.#members[0]!.engine.device;
  }

  /** Engine threads at work. */
  get size(): number {
    return this.#members.length;
  }

  /** Takes another thread in; rows go to it from now on. */
  add(engine: WorkerEngine): void {
    this.#enter(engine);
    for (const member of this.#members) member.engine.expectOthers();
  }

  submit(rows: readonly EngineRow[], listeners: readonly RowListener[]): readonly RowHandle[] {
    if (!this.alive) throw new AppError('ENGINE_FAILED', `the engine has stopped: ${this.failure}`);
    const { stalled } = this;
    if (stalled !== undefined) throw stallError(stalled);
    checkQueue(
      this.#members.reduce((sum, member) => sum + member.rows, 0),
      rows.length,
      this.#limits.maxQueue,
    );
    checkPositions(rows, this.#members[0]!.engine.maxPositions);
    const handles: RowHandle[] = [];
    const together = new Map<PoolMember, number[]>();
    for (const [i, row] of rows.entries()) {
      const { member, wanting } = this.#router.route(this.#members, row);
      member.rows += 1;
      if (wanting !== undefined) this.#copyAll(row, wanting).catch(() => {});
      if (row.selection.every(({ digest }) => member.adapters.has(digest))) {
        together.set(member, [...(together.get(member) ?? []), i]);
      } else {
        handles[i] = this.#submitLater(member, row, listeners[i]!);
      }
    }
    for (const [member, places] of together) {
      const submitted = member.engine.submit(
        places.map((i) => rows[i]!),
        places.map((i) => counted(member, listeners[i]!)),
      );
      for (const [at, i] of places.entries()) handles[i] = submitted[at]!;
    }
    return handles;
  }

  async load(adapter: BoundAdapter): Promise<void> {
    const fewest = Math.min(...this.#members.map(({ adapters, arriving }) => adapters.size + arriving.size));
    const idle = this.#members.filter(({ rows }) => rows === leastBusy(this.#members).rows);
    const member = idle.find(({ adapters, arriving }) => adapters.size + arriving.size === fewest) ?? idle[0]!;
    const { digest } = adapter;
    this.#loaded.add(digest);
    try {
      await this.#arrive(member, digest, () => member.engine.load(adapter));
    } catch (error) {
      if (!this.#members.some(({ adapters }) => adapters.has(digest))) this.#loaded.delete(digest);
      throw error;
    }
  }

  async unload(digest: string): Promise<void> {
    this.#loaded.delete(digest);
    await Promise.all(
      this.#members.map(async (member) => {
        await member.arriving.get(digest)?.catch(() => {});
        if (this.#loaded.has(digest) || !member.adapters.delete(digest)) return;
        await member.engine.unload(digest);
      }),
    );
  }

  stats(): EngineStats {
    const all = this.#members.map(({ engine }) => engine.stats());
    const sum = all.reduce((total, stats) => {
      const added = Object.entries(total).map(([key, value]) => [
        key,
        (value ?? 0) + (stats[key as keyof EngineStats] ?? 0),
      ]);
      return Object.fromEntries(added) as unknown as EngineStats;
    });
    return { ...sum, adaptersLoaded: this.#loaded.size };
  }

  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#members.map(({ engine }) => engine.close()));
  }

  #enter(engine: WorkerEngine): void {
    this.#members.push({ engine, rows: 0, adapters: new Set(), arriving: new Map() });
    engine.onStall(() => {
      for (const listener of this.#onStall) listener();
    });
    // What one thread held is lost with it, and nobody knows what led to that: the others end, too. Where all are being
    // closed each ends by itself: a thread that is stopped in the middle of a step can take the process with it.
    void engine.stopped.then(() => {
      this.#failure ??= engine.failure;
      if (!this.#closing) {
        for (const member of this.#members) member.engine.abandon('another engine thread of the model stopped');
      }
      this.#tellStopped();
    });
  }

  /** A row whose adapters come together on one thread first. */
  #submitLater(member: PoolMember, row: EngineRow, asked: RowListener): RowHandle {
    const listener = counted(member, asked);
    let handle: RowHandle | undefined;
    let ended = false;
    const end = (event: EndEvent) => {
      if (ended) return;
      ended = true;
      listener.end(event);
    };
    this.#copyAll(row, member)
      .then(() => {
        if (!ended) [handle] = member.engine.submit([row], [listener]);
      })
      .catch((error: Error) => end(refusal(0, error)));
    const cancelled: EndEvent = { ...refusal(0, new Error('cancelled before it began')), cause: 'cancelled' };
    return { cancel: () => (handle === undefined ? end(cancelled) : handle.cancel()) };
  }

  /** Copies every adapter of the row that the member lacks. Rejects where one is nowhere. */
  async #copyAll({ selection }: EngineRow, member: PoolMember): Promise<void> {
    for (const { digest } of selection) {
      if (member.adapters.has(digest)) continue;
      await (member.arriving.get(digest) ?? this.#arrive(member, digest, () => this.#copy(member, digest)));
    }
  }

  async #copy(member: PoolMember, digest: string): Promise<void> {
    const owner = this.#members.find(({ adapters }) => adapters.has(digest));
    const adapter = await owner?.engine.copyOf(digest);
    if (adapter === undefined) throw new Error(`adapter ${digest} is not loaded`);
    await member.engine.load(adapter);
  }

  /** Notes an adapter on its way to a member; one that was unloaded meanwhile goes again. */
  async #arrive(member: PoolMember, digest: string, bring: () => Promise<void>): Promise<void> {
    const arrival = bring().then(() => {
      member.adapters.add(digest);
    });
    member.arriving.set(digest, arrival);
    try {
      await arrival;
    } finally {
      member.arriving.delete(digest);
    }
  }
}

/** A listener whose row counts as the member's until it ends. */
function counted(member: PoolMember, listener: RowListener): RowListener {
  return {
    token: (event) => listener.token(event),
    ...(listener.prompt && { prompt: (event) => listener.prompt!(event) }),
    end: (event) => {
      member.rows -= 1;
      listener.end(event);
    },
  };
}
