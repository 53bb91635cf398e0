/**
 * The adapters of a step side by side: for each linear group one A and one B with all their ranks below each other. A
 * step of one adapter takes its resident buffers as they are. For several, joined buffers are kept and grown while rows
 * come and go, and made anew when most of them is not needed any more.
 */
import type { BoundAdapter } from '../../adapters/types.js';
import { GraphBuilder } from '../../model/onnx-graph.js';
import { elementType, type GpuPrecision } from '../../model/webgpu/gpu-precision.js';
import type { RankSpan } from '../../model/webgpu/group-pairs.js';
import type { LinearGroup } from '../../model/webgpu/linear-groups.js';
import type { AdapterResidency, ResidentAdapter } from './adapter-residency.js';
import type { GpuDevice, GpuSession, GpuTensor } from './gpu-device.js';

/** Adapters that one run of the joining graph appends. */
const AT_ONCE = 4;
/** Joined sets that are kept: groups of rows that decode apart from each other take turns. */
const KEPT = 3;

/** Ranks of one group: whose they are, in order. */
export interface Segment extends RankSpan {
  readonly digest: string;
}

/** One group of a set. */
export interface SetPair {
  /** [ranks, in] and [ranks, out]; without elements where no adapter of the set has the group. */
  readonly a: GpuTensor;
  readonly b: GpuTensor;
  readonly segments: readonly Segment[];
}

/** Adapters joined for a step; pairs by group key. */
export interface AdapterSet {
  readonly digests: ReadonlySet<string>;
  readonly pairs: ReadonlyMap<string, SetPair>;
  readonly ranks: number;
  /** False: the buffers are the resident adapter's own. */
  readonly joined: boolean;
}

/** Sets of adapters whose ranks lie side by side. */
export class AdapterSets {
  readonly #device: GpuDevice;
  readonly #residency: AdapterResidency;
  readonly #groups: readonly LinearGroup[];
  readonly #join: GpuSession;
  readonly #empty: AdapterSet;
  /** The one used last comes last. */
  #joined: AdapterSet[] = [];

  private constructor(
    device: GpuDevice,
    residency: AdapterResidency,
    groups: readonly LinearGroup[],
    join: GpuSession,
    empty: AdapterSet,
  ) {
    this.#device = device;
    this.#residency = residency;
    this.#groups = groups;
    this.#join = join;
    this.#empty = empty;
  }

  static async open(
    device: GpuDevice,
    residency: AdapterResidency,
    groups: readonly LinearGroup[],
    precision: GpuPrecision,
  ): Promise<AdapterSets> {
    const type = elementType(precision);
    const graph = new GraphBuilder();
    for (const [i, { inFeatures, outFeatures }] of groups.entries()) {
      for (const [side, width] of [
        ['a', inFeatures],
        ['b', outFeatures],
      ] as const) {
        const parts = Array.from({ length: AT_ONCE + 1 }, (_, part) =>
          graph.input(`${side}.${i}.${part}`, type, [`rank.${i}.${part}`, width]),
        );
        graph.into('Concat', parts, [`${side}.${i}`], { axis: 0 });
        graph.output(`${side}.${i}`, type, [`ranks.${i}`, width]);
      }
    }
    const join = await device.session(graph.finish('join-adapters'), true);
    const none = new Map<string, SetPair>();
    for (const { key, inFeatures, outFeatures } of groups) {
      const empty = (width: number) =>
        device.upload(type, precision.half ? new Uint16Array(0) : new Float32Array(0), [0, width]);
      none.set(key, { a: await empty(inFeatures), b: await empty(outFeatures), segments: [] });
    }
    const empty: AdapterSet = { digests: new Set(), pairs: none, ranks: 0, joined: false };
    return new AdapterSets(device, residency, groups, join, empty);
  }

  /** A set that holds at least these adapters. It is valid until the next call and until the residency's `done`. */
  async setFor(adapters: readonly BoundAdapter[]): Promise<AdapterSet> {
    if (adapters.length === 0) return this.#empty;
    const wanted = new Set(adapters.map(({ digest }) => digest));
    // Ranks that no row has any more cost time in every step; joining costs time once. So up to half may be idle.
    const union = (set: AdapterSet) => new Set([...set.digests, ...wanted]).size;
    const near = adapters.length === 1 ? [] : this.#joined.filter((set) => union(set) <= 2 * wanted.size);
    const ready = near.find((set) => union(set) === set.digests.size);
    if (ready !== undefined) return this.#keep(ready, ready);
    const resident = await this.#residency.acquire(adapters);
    if (adapters.length === 1) return this.#alone(adapters[0]!.digest, resident[0]!);
    const old = near.at(-1);
    const added = adapters.flatMap(({ digest }, i) =>
      old?.digests.has(digest) === true ? [] : [[digest, resident[i]!] as const],
    );
    let set = old ?? this.#empty;
    for (let at = 0; at < added.length; at += AT_ONCE) {
      const next = await this.#append(set, added.slice(at, at + AT_ONCE));
      if (set !== old) this.#free(set);
      set = next;
    }
    return this.#keep(set, old);
  }

  /** Frees joined buffers that hold an adapter; called when it is unloaded, after steps that use it. */
  forget(digest: string): void {
    for (const set of this.#joined) if (set.digests.has(digest)) this.#free(set);
    this.#joined = this.#joined.filter((set) => !set.digests.has(digest));
  }

  /** Makes `set` the one used last, in the place of `instead`. */
  #keep(set: AdapterSet, instead: AdapterSet | undefined): AdapterSet {
    const others = this.#joined.filter((other) => other !== instead);
    if (instead !== undefined && instead !== set) this.#free(instead);
    if (others.length === KEPT) this.#free(others.shift()!);
    this.#joined = [...others, set];
    return set;
  }

  #alone(digest: string, resident: ResidentAdapter): AdapterSet {
    let ranks = 0;
    const pairs = new Map(
      this.#groups.map(({ key }) => {
        const pair = resident.get(key);
        ranks += pair?.rank ?? 0;
        return pair === undefined
          ? ([key, this.#empty.pairs.get(key)!] as const)
          : ([key, { a: pair.a, b: pair.b, segments: pair.spans.map((span) => ({ digest, ...span })) }] as const);
      }),
    );
    return { digests: new Set([digest]), pairs, ranks, joined: false };
  }

  async #append(set: AdapterSet, added: readonly (readonly [string, ResidentAdapter])[]): Promise<AdapterSet> {
    const feeds: Record<string, GpuTensor> = {};
    for (const [i, { key }] of this.#groups.entries()) {
      for (const side of ['a', 'b'] as const) {
        feeds[`${side}.${i}.0`] = set.pairs.get(key)![side];
        for (let part = 0; part < AT_ONCE; part += 1) {
          const pair = added[part]?.[1].get(key);
          feeds[`${side}.${i}.${part + 1}`] = (pair ?? this.#empty.pairs.get(key)!)[side];
        }
      }
    }
    const outputs = await this.#join.run(feeds);
    let { ranks } = set;
    const pairs = new Map(
      this.#groups.map(({ key }, i) => {
        const more = added.flatMap(([digest, resident]) => {
          const pair = resident.get(key);
          ranks += pair?.rank ?? 0;
          return pair?.spans.map((span) => ({ digest, ...span })) ?? [];
        });
        const a = this.#device.adopt(outputs[`a.${i}`]!);
        const b = this.#device.adopt(outputs[`b.${i}`]!);
        return [key, { a, b, segments: [...set.pairs.get(key)!.segments, ...more] }] as const;
      }),
    );
    const digests = new Set([...set.digests, ...added.map(([digest]) => digest)]);
    return { digests, pairs, ranks, joined: true };
  }

  #free(set: AdapterSet): void {
    if (!set.joined) return;
    for (const { a, b } of set.pairs.values()) {
      this.#device.free(a);
      this.#device.free(b);
    }
  }
}
