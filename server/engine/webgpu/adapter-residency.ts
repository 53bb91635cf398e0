/**
 * Adapters in the device's memory, under a budget of bytes. An adapter is uploaded group by group when it is loaded, in
 * turns with the running steps. The host keeps its arrays, so one that was evicted comes back when a row needs it.
 * Adapters that a step works with are never evicted; if those alone exceed the budget, the budget is exceeded.
 */
import type { BoundAdapter, BoundLinear } from '../../adapters/types.js';
import { AppError } from '../../errors.js';
import { elementBytes, elementType, type GpuPrecision, toHalf } from '../../model/webgpu/gpu-precision.js';
import { groupPair, pairElements, type RankSpan } from '../../model/webgpu/group-pairs.js';
import type { LinearGroup } from '../../model/webgpu/linear-groups.js';
import type { GpuDevice, GpuTensor } from './gpu-device.js';

/** One group's pair on the device. */
export interface ResidentPair {
  readonly rank: number;
  readonly spans: readonly RankSpan[];
  /** [rank, in] and [rank, out] */
  readonly a: GpuTensor;
  readonly b: GpuTensor;
}

/** An adapter on the device: pairs by group key; groups that it leaves alone are absent. */
export type ResidentAdapter = ReadonlyMap<string, ResidentPair>;

interface Entry {
  readonly bytes: number;
  readonly pairs: Map<string, ResidentPair>;
  readonly uploaded: Promise<void>;
  used: number;
}

/** The adapters whose arrays are in the memory of the device. */
export class AdapterResidency {
  readonly #device: GpuDevice;
  readonly #groups: readonly LinearGroup[];
  readonly #precision: GpuPrecision;
  readonly #budget: number;
  readonly #loaded: Set<string>;
  readonly #entries = new Map<string, Entry>();
  /** Digests that the current step works with. */
  #pinned: ReadonlySet<string> = new Set();
  #clock = 0;
  /** Uploads and evictions since the start. */
  readonly counts = { uploads: 0, evictions: 0 };

  /**
   * @param budget most bytes of adapters that are not in use
   * @param loaded digests that were loaded and not unloaded since; kept here. What is resident beyond them goes after
   * the step that works with it. A model that is put on a device anew hands its own on.
   */
  constructor(
    device: GpuDevice,
    groups: readonly LinearGroup[],
    precision: GpuPrecision,
    budget: number,
    loaded = new Set<string>(),
  ) {
    this.#device = device;
    this.#groups = groups;
    this.#precision = precision;
    this.#budget = budget;
    this.#loaded = loaded;
  }

  /** Bytes of resident adapters, those being uploaded included. */
  get bytes(): number {
    let sum = 0;
    for (const { bytes } of this.#entries.values()) sum += bytes;
    return sum;
  }

  /** Bytes that an adapter takes on the device. */
  bytesOf(adapter: BoundAdapter): number {
    const ranks = new Map<string, number>();
    for (const { module, rank } of adapter.linears) ranks.set(module, (ranks.get(module) ?? 0) + rank);
    return pairElements(this.#groups, (module) => ranks.get(module) ?? 0) * elementBytes(this.#precision);
  }

  /**
   * Uploads an adapter that was loaded. Throws ADAPTER_MEMORY_EXHAUSTED if it can never fit, and what the device says if
   * it refuses it.
   */
  async load(adapter: BoundAdapter): Promise<void> {
    const bytes = this.bytesOf(adapter);
    if (bytes > this.#budget) {
      throw new AppError(
        'ADAPTER_MEMORY_EXHAUSTED',
        `the adapter takes ${bytes} bytes on the device, more than the ${this.#budget} that adapters may take there`,
      );
    }
    this.#loaded.add(adapter.digest);
    try {
      await this.#settled(adapter.digest, this.#entry(adapter));
    } catch (error) {
      this.#loaded.delete(adapter.digest);
      throw error;
    }
  }

  /** Frees an adapter, unless a step works with it; then it goes after the step. */
  unload(digest: string): void {
    this.#loaded.delete(digest);
    this.#trim(0);
  }

  /** The adapters of a step, in the order given; they stay until {@link done}. */
  async acquire(adapters: readonly BoundAdapter[]): Promise<ResidentAdapter[]> {
    this.#pinned = new Set(adapters.map(({ digest }) => digest));
    const entries = adapters.map((adapter) => this.#entry(adapter));
    for (const [i, entry] of entries.entries()) await this.#settled(adapters[i]!.digest, entry);
    return entries.map(({ pairs }) => pairs);
  }

  /** The step that acquired is over. */
  done(): void {
    this.#pinned = new Set();
    this.#trim(0);
  }

  /** The adapter's entry; its upload begins if it is not there. */
  #entry(adapter: BoundAdapter): Entry {
    this.#clock += 1;
    const known = this.#entries.get(adapter.digest);
    if (known !== undefined) {
      known.used = this.#clock;
      return known;
    }
    const bytes = this.bytesOf(adapter);
    this.#trim(bytes);
    const pairs = new Map<string, ResidentPair>();
    const uploaded = this.#upload(adapter, pairs);
    const entry: Entry = { bytes, pairs, uploaded, used: this.#clock };
    this.#entries.set(adapter.digest, entry);
    // Whoever waits sees the failure; here it must only not go unhandled.
    uploaded.catch(() => {});
    return entry;
  }

  async #settled(digest: string, entry: Entry): Promise<void> {
    try {
      await entry.uploaded;
    } catch (error) {
      this.#drop(digest, entry);
      throw error;
    }
  }

  async #upload(adapter: BoundAdapter, pairs: Map<string, ResidentPair>): Promise<void> {
    this.counts.uploads += 1;
    const linears = new Map<string, BoundLinear[]>();
    for (const linear of adapter.linears)
      if (linear.rank > 0) linears.set(linear.module, [...(linears.get(linear.module) ?? []), linear]);
    const type = elementType(this.#precision);
    for (const group of this.#groups) {
      const pair = groupPair(group, (module) => linears.get(module) ?? []);
      if (pair === undefined) continue;
      const { rank, spans } = pair;
      const send = (values: Float32Array, width: number) => {
        const used = values.subarray(0, rank * width);
        return this.#device.upload(type, this.#precision.half ? toHalf(used, group.key) : used, [rank, width]);
      };
      const a = await send(pair.a, group.inFeatures);
      try {
        pairs.set(group.key, { rank, spans, a, b: await send(pair.b, group.outFeatures) });
      } catch (error) {
        this.#device.free(a);
        throw error;
      }
    }
  }

  /** Makes room for `bytes`: first what nobody has loaded, then what was used longest ago. */
  #trim(bytes: number): void {
    const free = [...this.#entries].filter(([digest]) => !this.#pinned.has(digest));
    const loaded = (digest: string) => Number(this.#loaded.has(digest));
    free.sort(([x, { used }], [y, other]) => loaded(x) - loaded(y) || used - other.used);
    let left = this.bytes + bytes;
    for (const [digest, entry] of free) {
      if (this.#loaded.has(digest) && left <= this.#budget) return;
      left -= entry.bytes;
      this.counts.evictions += 1;
      this.#drop(digest, entry);
    }
  }

  /** Forgets an entry; its buffers go when its upload has ended. */
  #drop(digest: string, entry: Entry): void {
    if (this.#entries.get(digest) === entry) this.#entries.delete(digest);
    const free = () => {
      for (const { a, b } of entry.pairs.values()) {
        this.#device.free(a);
        this.#device.free(b);
      }
      entry.pairs.clear();
    };
    entry.uploaded.then(free, free);
  }
}
