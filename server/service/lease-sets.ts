/**
 * Leases of several adapters at once, all or none. Who must wait for memory holds nothing meanwhile, except for one set at
 * a time, which others let pass: so two requests can never wait for each other's adapters.
 */
import type { AdapterEntry } from '../adapters/adapter-entry.js';
import type { ResidentKey, ResidentLease } from '../adapters/residency.js';
import { AppError } from '../errors.js';
import type { CallerPatience } from './load-wait.js';

/** How one adapter is leased. */
export interface LeaseOptions extends CallerPatience {
  /** False: fail rather than evict another adapter. Default true. */
  readonly evict?: boolean | undefined;
}

/** How single adapters are leased. */
export interface LeaseOne {
  lease(entry: AdapterEntry, options: LeaseOptions): Promise<ResidentLease>;
  /** True: a lease needs neither reading nor room. */
  isThere(entry: AdapterEntry): boolean;
  /** Most bytes that a set of these contents can have: what is pinned never makes room for it. */
  mostBytes(keys: readonly ResidentKey[]): number;
  /** How long rows wait for memory that other rows use, in milliseconds. */
  readonly roomWaitMs: number;
}

type Held = Map<AdapterEntry, ResidentLease>;

/** A failure and the entry that it is about. */
export class LeaseFailure extends Error {
  readonly entry: AdapterEntry;

  constructor(entry: AdapterEntry, cause: unknown) {
    super('an adapter cannot be leased', { cause });
    this.entry = entry;
  }
}

/** Leases sets. */
export class LeaseSets {
  private readonly one: LeaseOne;
  /** The set that may hold some while it waits for others, and those behind it. */
  private line: Promise<unknown> = Promise.resolve();
  private first: ReadonlySet<AdapterEntry> = new Set();

  constructor(one: LeaseOne) {
    this.one = one;
  }

  /** True for adapters of the set whose turn it is: others must not keep them from their room. */
  isFirst(entry: AdapterEntry): boolean {
    return this.first.has(entry);
  }

  /** Throws a {@link LeaseFailure}, or the signal's reason; then nothing is leased. */
  lease(entries: ReadonlySet<AdapterEntry>, wait: CallerPatience = {}): Promise<Held> {
    const simple = entries.size <= 1 || [...entries].every((entry) => this.one.isThere(entry));
    if (simple) return this.attempt(entries, wait);
    const turn = this.line.then(() => this.inTurn(entries, wait));
    this.line = turn.catch(() => {});
    return turn;
  }

  private async inTurn(entries: ReadonlySet<AdapterEntry>, wait: CallerPatience): Promise<Held> {
    wait.signal?.throwIfAborted();
    // Sizes first: only what fits together may wait while it holds.
    for (const entry of entries) {
      if (entry.summary === undefined)
        for (const lease of (await this.attempt(new Set([entry]), wait)).values()) lease.release();
    }
    const contents = contentsOf(entries);
    const bytes = contents.reduce((sum, one) => sum + one.bytes, 0);
    const most = this.one.mostBytes(contents);
    if (bytes > most) throw tooLarge(entries, bytes, most);
    this.first = entries;
    try {
      return await this.attempt(entries, wait);
    } finally {
      this.first = new Set();
    }
  }

  private async attempt(
    entries: ReadonlySet<AdapterEntry>,
    { signal, waitMs = this.one.roomWaitMs }: CallerPatience,
  ): Promise<Held> {
    const held: Held = new Map();
    const failures: LeaseFailure[] = [];
    await Promise.all(
      Array.from(entries, (entry) =>
        this.one.lease(entry, { waitMs, signal }).then(
          (lease) => held.set(entry, lease),
          (thrown: unknown) => failures.push(new LeaseFailure(entry, thrown)),
        ),
      ),
    );
    if (failures.length === 0) return held;
    for (const lease of held.values()) lease.release();
    // What will not pass says more than what may.
    throw failures.find(({ cause }) => !(cause instanceof AppError && cause.spec.retryable)) ?? failures[0];
  }
}

function tooLarge(entries: ReadonlySet<AdapterEntry>, bytes: number, most: number): LeaseFailure {
  const [entry] = entries;
  const what =
    `with the ${entries.size - 1} others of the request it needs ${bytes} bytes; ` +
    `the budget has ${most} bytes beside adapters that are pinned`;
  const metadata = { needed: String(bytes), budget: String(most) };
  return new LeaseFailure(entry!, new AppError('ADAPTER_MEMORY_EXHAUSTED', what, { metadata }));
}

/** The contents and their bytes; equal contents count once. */
function contentsOf(entries: ReadonlySet<AdapterEntry>): (ResidentKey & { readonly bytes: number })[] {
  const contents = new Map<string, ResidentKey & { readonly bytes: number }>();
  for (const { pool, summary } of entries) {
    if (summary) contents.set(`${pool} ${summary.digest}`, { pool, digest: summary.digest, bytes: summary.bytes });
  }
  return [...contents.values()];
}
