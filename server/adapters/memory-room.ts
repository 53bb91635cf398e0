/**
 * Bytes of one budget, handed out in order. Who finds no room may wait for it: others' leases end, and what they held
 * makes room. A waiter is overtaken only by what fits beside it, and only a few times.
 */
import { AppError } from '../errors.js';

/** Bytes taken from the budget. */
export interface Room {
  readonly bytes: number;
  /** Gives them back; idempotent. */
  release(): void;
}

/** How room may be made. */
export interface RoomOptions {
  /** False: fail rather than evict another adapter. Default true. */
  readonly evict?: boolean | undefined;
  /** True: wait for others' leases to end until the signal aborts. Default false: fail at once. */
  readonly wait?: boolean | undefined;
  /** Ends the wait, which then fails with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** True while nobody may keep it from room that is there; asked anew each time. */
  readonly isFirst?: (() => boolean) | undefined;
}

/** What can leave the memory. */
export interface Evictable {
  /** Starts to unload what should go first; undefined = nothing can go now. */
  evict(): Promise<void> | undefined;
  /** Bytes that never go. */
  pinnedBytes(): number;
}

interface Waiter {
  readonly bytes: number;
  readonly evict: boolean;
  readonly patient: boolean;
  readonly isFirst: () => boolean;
  overtaken: number;
  grant(room: Room): void;
  refuse(error: unknown): void;
}

/** How often a waiter lets smaller ones pass. */
const MAX_OVERTAKEN = 8;
/** How many may wait at once, where nothing else is said. */
export const MAX_WAITING = 1000;

/** The budget. */
export class MemoryRoom {
  readonly budget: number;
  private readonly others: Evictable;
  private readonly maxWaiting: number;
  private readonly queue: Waiter[] = [];
  private taken = 0;
  private pumping = false;
  private again = false;

  /** @param maxWaiting how many may wait for room at once */
  constructor(budget: number, others: Evictable, maxWaiting = MAX_WAITING) {
    this.budget = budget;
    this.others = others;
    this.maxWaiting = maxWaiting;
  }

  /** Bytes that are taken. */
  get used(): number {
    return this.taken;
  }

  /** How many wait for room. */
  get waiting(): number {
    return this.queue.length;
  }

  /**
   * Takes bytes, making room for them where that is allowed.
   * @throws AppError ADAPTER_MEMORY_EXHAUSTED with the numbers where they can never fit, or nobody waits for them to;
   * QUEUE_FULL where too many wait already; the signal's reason
   */
  take(bytes: number, options: RoomOptions = {}): Promise<Room> {
    const { evict = true, wait = false, signal, isFirst = () => false } = options;
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (bytes > this.budget - this.others.pinnedBytes()) return Promise.reject(this.exhausted(bytes));
    if (wait && this.queue.length >= this.maxWaiting) return Promise.reject(this.tooMany());
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        if (this.remove(waiter)) waiter.refuse(signal!.reason);
        this.changed();
      };
      const settle = (): void => signal?.removeEventListener('abort', leave);
      const waiter: Waiter = {
        bytes,
        evict,
        patient: wait,
        isFirst,
        overtaken: 0,
        grant: (room) => {
          settle();
          resolve(room);
        },
        refuse: (error) => {
          settle();
          reject(error);
        },
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.queue.push(waiter);
      this.changed();
    });
  }

  /** What is said where bytes find no room. @param waitedMs how long they were waited for, in milliseconds */
  exhausted(bytes: number, waitedMs = 0): AppError {
    const { taken, budget } = this;
    const waited = waitedMs > 0 ? `, and that did not change within ${waitedMs} ms` : '';
    return new AppError(
      'ADAPTER_MEMORY_EXHAUSTED',
      `the adapter needs ${bytes} bytes; of the budget of ${budget} bytes ${taken} are taken by adapters that are ` +
        `in use, pinned or being loaded${waited}`,
      { metadata: { needed: String(bytes), used: String(taken), budget: String(budget) }, retryAfterMs: 1000 },
    );
  }

  /** To be called whenever something may leave the memory that could not before. */
  changed(): void {
    this.again = true;
    if (!this.pumping) void this.pump();
  }

  private async pump(): Promise<void> {
    this.pumping = true;
    while (this.again) {
      this.again = false;
      while (await this.serveOne());
    }
    this.pumping = false;
  }

  /** Brings the queue one step further; false when nobody in it can go on. */
  private async serveOne(): Promise<boolean> {
    const [head] = this.queue;
    if (head === undefined) return false;
    if (this.fits(head)) return this.grant(head);
    if (head.evict) {
      const evicted = this.others.evict();
      if (evicted !== undefined) {
        await evicted;
        return true;
      }
    }
    if (!head.patient) return this.refuse(head);
    for (const other of this.queue.slice(1)) {
      if (this.fits(other) && (head.overtaken < MAX_OVERTAKEN || other.isFirst())) {
        head.overtaken += 1;
        return this.grant(other);
      }
      if (!other.patient) return this.refuse(other);
    }
    return false;
  }

  private fits({ bytes }: Waiter): boolean {
    return this.taken + bytes <= this.budget;
  }

  private grant(waiter: Waiter): true {
    this.remove(waiter);
    const { bytes } = waiter;
    this.taken += bytes;
    let held = true;
    waiter.grant({
      bytes,
      release: () => {
        if (!held) return;
        held = false;
        this.taken -= bytes;
        this.changed();
      },
    });
    return true;
  }

  private refuse(waiter: Waiter): true {
    this.remove(waiter);
    waiter.refuse(this.exhausted(waiter.bytes));
    return true;
  }

  private remove(waiter: Waiter): boolean {
    const at = this.queue.indexOf(waiter);
    if (at >= 0) this.queue.splice(at, 1);
    return at >= 0;
  }

  private tooMany(): AppError {
    const waiting = `${this.queue.length} other adapters wait already for room in the budget of ${this.budget} bytes`;
    return new AppError('QUEUE_FULL', waiting, { retryAfterMs: 1000 });
  }
}
