/** Leases for the rows of a request: every adapter of every row, or none. */

import type { AdapterEntry } from '../adapters/adapter-entry.js';
import { notSummable } from '../adapters/mixture.js';
import type { AdapterRegistry } from '../adapters/registry.js';
import type { ResidentLease } from '../adapters/residency.js';
import { AppError } from '../errors.js';
import type { AdapterLog } from './adapter-core.js';
import { type AdapterLoader, isPassing } from './adapter-loader.js';
import { LeaseFailure } from './lease-sets.js';
import type { AdapterLease, Patience } from './ports.js';
import type { AdapterSelection } from './types.js';

/** One row's leases. */
export interface SelectionLease {
  readonly leases: readonly AdapterLease[];
  /** Idempotent. */
  release(): void;
}

function unknownAdapters(names: readonly string[], registry: AdapterRegistry, model: string): AppError {
  const near = [...new Set(names.flatMap((name) => registry.near(name)))];
  const listed = names.map((name) => JSON.stringify(name)).join(', ');
  const hint = near.length === 0 ? '' : `; near names: ${near.map((name) => JSON.stringify(name)).join(', ')}`;
  const noun = names.length === 1 ? `adapter ${listed} is` : `adapters ${listed} are`;
  return new AppError('ADAPTER_NOT_REGISTERED', `${noun} not registered for model ${JSON.stringify(model)}${hint}`, {
    metadata: { adapter: names.join(','), model, ...(near.length > 0 ? { near: near.join(',') } : {}) },
  });
}

/** The refusal of an adapter whose load failed for good. */
function failedAdapter(entry: AdapterEntry): AppError {
  return new AppError('ADAPTER_FAILED', `adapter ${JSON.stringify(entry.name)} failed to load: ${entry.error}`, {
    metadata: { adapter: entry.name, model: entry.model },
  });
}

/** Adds the adapter's name to a failure that passes; keeps any other as the entry's error. */
export function loadFailure(entry: AdapterEntry, thrown: unknown): AppError {
  const error = AppError.from(thrown);
  // Unregistered meanwhile: that says nothing about the adapter.
  if (error.reason === 'MODEL_NOT_FOUND') return error;
  if (isPassing(error)) {
    return new AppError(error.reason, `adapter ${JSON.stringify(entry.name)}: ${error.message}`, {
      metadata: { ...error.metadata, adapter: entry.name },
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
      cause: error,
    });
  }
  entry.error = error.message;
  return failedAdapter(entry);
}

/** What a name of a selection stands for. */
export interface Resolved {
  readonly entry: AdapterEntry;
  /** True: the name is an alias. */
  readonly aliased: boolean;
}

/** One adapter of one row: what was asked for, and what that is. */
interface Chosen extends Resolved {
  readonly name: string;
  readonly weight: number;
}

/** What the selections stand for. Throws ADAPTER_NOT_REGISTERED with all unknown names. */
function choose(
  registry: AdapterRegistry,
  resolve: (name: string) => Resolved | undefined,
  selections: readonly AdapterSelection[],
  model: string,
): Chosen[][] {
  const unknown = new Set<string>();
  const chosen = selections.map((selection) =>
    selection.flatMap(({ name, weight }): Chosen[] => {
      const resolved = resolve(name.normalize('NFC'));
      if (resolved === undefined) unknown.add(name);
      return resolved === undefined ? [] : [{ ...resolved, name: name.normalize('NFC'), weight }];
    }),
  );
  if (unknown.size > 0) throw unknownAdapters([...unknown], registry, model);
  return chosen;
}

/** Leases everything the entries need, or releases what it got and throws the first failure. */
async function leaseAll(
  entries: ReadonlySet<AdapterEntry>,
  loader: AdapterLoader,
  log: AdapterLog,
  { signal, deadline }: Patience,
): Promise<Map<AdapterEntry, ResidentLease>> {
  // Rows of the base, and of adapters that are there, wait for nothing.
  const there = loader.takeSet(entries);
  if (there !== undefined) return there;
  // Who says how long an answer may take waits that long, not as long as others do: the signal aborts then.
  const all = loader.leaseSet(entries, { signal, waitMs: deadline === undefined ? undefined : Infinity });
  let leave: (() => void) | undefined;
  const left = new Promise<'left'>((resolve) => {
    leave = () => resolve('left');
    signal.addEventListener('abort', leave);
    if (signal.aborted) leave();
  });
  try {
    const outcome = await Promise.race([all, left]);
    if (outcome !== 'left') return outcome;
  } catch (error) {
    if (!(error instanceof LeaseFailure)) throw error;
    const { entry, cause } = error;
    const known = entry.error;
    const failure = loadFailure(entry, cause);
    // What passes is the requests' matter, and the first of them tells of what stays.
    if (entry.error !== known)
      log.warn({ model: entry.model, adapter: entry.name, reason: AppError.from(cause).reason }, failure.message);
    loader.changed(entry);
    throw failure;
  } finally {
    signal.removeEventListener('abort', leave!);
  }
  // A load that is read goes on, and one that others want: what it brings may be wanted soon.
  all.then(
    (held) => {
      for (const lease of held.values()) lease.release();
    },
    () => {},
  );
  throw canceled(signal);
}

/** Refuses sums that have no meaning. The entries' files have been read by now, so their features are known. */
function checkMixture(selection: readonly Chosen[]): void {
  for (const { name, weight, entry } of selection) {
    const features = notSummable(entry.summary?.features ?? []);
    if (features.length === 0 || (selection.length === 1 && weight === 1)) continue;
    throw new AppError(
      'ADAPTER_NOT_MIXABLE',
      `adapter ${JSON.stringify(name)} uses ${features.join(', ')}: it can only be selected alone and with weight 1`,
      { metadata: { adapter: name, features: features.join(',') } },
    );
  }
}

/** The error of a call whose client went away or whose deadline passed. */
export function canceled(signal: AbortSignal): AppError {
  return signal.reason instanceof AppError ? signal.reason : new AppError('CANCELED', 'the request was canceled');
}

/** Where names are looked up. */
export interface NameBook {
  readonly model: string;
  readonly registry: AdapterRegistry;
  /** Draws anew for an alias each time; undefined = there is no such name. */
  resolve(name: string): Resolved | undefined;
  /** Told of adapters that fail to load. */
  readonly log: AdapterLog;
}

/**
 * Leases the adapters of all selections at once, or none.
 * @throws AppError ADAPTER_NOT_REGISTERED, ADAPTER_FAILED, ADAPTER_NOT_MIXABLE, ADAPTER_MEMORY_EXHAUSTED, CANCELED
 */
export async function leaseSelections(
  names: NameBook,
  loader: AdapterLoader,
  selections: readonly AdapterSelection[],
  patience: Patience,
): Promise<readonly SelectionLease[]> {
  const { signal } = patience;
  if (signal.aborted) throw canceled(signal);
  const chosen = choose(names.registry, (name) => names.resolve(name), selections, names.model);
  const entries = new Set(chosen.flat().map(({ entry }) => entry));
  for (const entry of entries) {
    // Only for those that failed: the others wait for nothing.
    if (entry.error !== undefined) await loader.retry(entry);
    if (entry.error !== undefined) throw failedAdapter(entry);
  }
  const held = await leaseAll(entries, loader, names.log, patience);
  try {
    for (const selection of chosen) checkMixture(selection);
  } catch (error) {
    for (const lease of held.values()) lease.release();
    throw error;
  }
  const result = chosen.map((selection): SelectionLease => {
    const used = new Set(selection.map(({ entry }) => entry));
    const own = Array.from(used, (entry) => held.get(entry)!.again());
    const usages = new Set(selection.map(({ entry }) => entry.usage));
    for (const usage of usages) usage.runningRows += 1;
    let released = false;
    return {
      leases: selection.map(({ name, weight, entry, aliased }) => {
        const { digest, invocationTokens, vocabularySize, text } = entry.summary!;
        return {
          name,
          digest,
          weight,
          invocationTokens,
          vocabularySize,
          text,
          ...(aliased && { resolved: entry.name }),
        };
      }),
      release: () => {
        if (released) return;
        released = true;
        const now = Date.now();
        for (const usage of usages) {
          usage.runningRows -= 1;
          usage.lastUsedAt = now;
        }
        for (const lease of own) lease.release();
      },
    };
  });
  for (const lease of held.values()) lease.release();
  return result;
}
