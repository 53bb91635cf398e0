/** Brings a registered adapter's weights into its model's engine, when they are not there already. */
import type { AdapterReader } from '../adapters/adapter-reader.js';
import type { AdapterEntry } from '../adapters/registry.js';
import type { LoadOptions, Residency, ResidentLease } from '../adapters/residency.js';
import { AppError } from '../errors.js';
import type { ServedModel } from './served-models.js';

/** Reads and loads adapters; concurrent loads of one entry, or of equal content, are one. */
export class AdapterLoader {
  private readonly loads = new Map<AdapterEntry, Promise<ResidentLease>>();
  private readonly models: ReadonlyMap<string, ServedModel>;
  private readonly reader: AdapterReader;
  private readonly residency: Residency;

  constructor(models: ReadonlyMap<string, ServedModel>, reader: AdapterReader, residency: Residency) {
    this.models = models;
    this.reader = reader;
    this.residency = residency;
  }

  /** True while the entry's files are being read or handed over. */
  isLoading(entry: AdapterEntry): boolean {
    return this.loads.has(entry);
  }

  /**
   * Leases the entry's weights, loading them first if need be.
   * @throws AppError of reading, binding or loading
   */
  async lease(entry: AdapterEntry, options: LoadOptions = {}): Promise<ResidentLease> {
    const { summary } = entry;
    const held = summary && this.residency.join({ pool: entry.pool, digest: summary.digest });
    if (held !== undefined) return held;
    const known = this.loads.get(entry);
    if (known !== undefined) return (await known).again();
    const load = this.load(entry, options);
    this.loads.set(entry, load);
    try {
      const lease = await load;
      // Those who wait for this load lease in the same turn; only then may the load's own lease go.
      setImmediate(() => lease.release());
      return lease.again();
    } finally {
      this.loads.delete(entry);
    }
  }

  private async load(entry: AdapterEntry, options: LoadOptions): Promise<ResidentLease> {
    const model = this.models.get(entry.model);
    if (model === undefined) throw new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(entry.model)} is gone`);
    const { folder, roots } = entry;
    const { supportedFeatures, baseCheck, base, engine } = model;
    const maxBytes = Number.isFinite(this.residency.budget) ? this.residency.budget : undefined;
    const { adapter, summary } = await this.reader.read(
      { folder, roots, supportedFeatures, maxBytes, baseCheck },
      base,
    );
    const before = entry.summary?.digest;
    if (before !== undefined && before !== summary.digest) {
      throw new AppError(
        'ADAPTER_INVALID',
        `its files have changed since it was registered (digest ${before}, now ${summary.digest}); ` +
          'delete it and register it again',
      );
    }
    entry.summary = summary;
    const lease = await this.residency.load(entry.pool, engine, adapter, options);
    entry.loadedAt = Date.now();
    this.retain(entry);
    return lease;
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

/** True for failures that say nothing about the adapter: the next use may try again. */
export function isPassing(error: AppError): boolean {
  return error.spec.retryable || error.reason === 'INTERNAL' || error.reason === 'CANCELED';
}
