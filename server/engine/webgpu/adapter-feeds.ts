/**
 * Inputs that say which row takes what of a step's adapters: per group a choice of ranks and their weights, and in the
 * full graph gains, biases and norm weights. They change when the rows' selections do, not with every step, so they stay
 * on the device until then.
 */

import type { GpuGraph } from '../../model/webgpu/gpu-graph.js';
import { elementType, type GpuPrecision, toHalf } from '../../model/webgpu/gpu-precision.js';
import { gpuInputs, groupBias } from '../../model/webgpu/gpu-sites.js';
import type { LinearGroup } from '../../model/webgpu/linear-groups.js';
import type * as ort from '../ort.js';
import type { RowAdapter } from '../row-adapter.js';
import type { AdapterSet, Segment } from './adapter-sets.js';
import type { GpuDevice, GpuTensor } from './gpu-device.js';

/** Combinations of rows that are kept: a prefill and a decode alternate. */
const KEPT = 4;

type Feeds = Record<string, ort.Tensor>;

/** What the adapters of a step feed into the graph. */
export class AdapterFeeds {
  readonly #device: GpuDevice;
  readonly #graph: GpuGraph;
  readonly #precision: GpuPrecision;
  readonly #small: ReadonlyMap<string, Float32Array>;
  /** By rows and order of adapters; the oldest first. */
  readonly #kept = new Map<string, { feeds: Feeds; own: GpuTensor[] }>();
  /** What a full graph is fed where no row changes anything. */
  #neutral: Feeds | undefined;

  constructor(device: GpuDevice, graph: GpuGraph, precision: GpuPrecision, small: ReadonlyMap<string, Float32Array>) {
    this.#device = device;
    this.#graph = graph;
    this.#precision = precision;
    this.#small = small;
  }

  /**
   * The adapter inputs of a step.
   * @param set holds at least what the rows select
   * @param rows one selection for all rows, or one for each
   */
  async feeds(set: AdapterSet, rows: readonly RowAdapter[]): Promise<Feeds> {
    const key = `${[...set.digests].join()}|${rows.map((row) => row.key).join('|')}`;
    const known = this.#kept.get(key);
    const kept = known ?? (await this.#make(set, rows));
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    for (const [oldest, { own }] of this.#kept) {
      if (this.#kept.size <= KEPT) break;
      this.#kept.delete(oldest);
      for (const tensor of own) this.#device.free(tensor);
    }
    const pairs: Feeds = {};
    for (const { key: group } of this.#graph.groups) {
      const pair = set.pairs.get(group)!;
      pairs[gpuInputs.a(group)] = pair.a;
      pairs[gpuInputs.b(group)] = pair.b;
    }
    return { ...kept.feeds, ...pairs };
  }

  /** Frees what was made for steps with an adapter; called when it is unloaded. */
  forget(digest: string): void {
    for (const [key, { own }] of this.#kept) {
      if (!key.includes(digest)) continue;
      this.#kept.delete(key);
      for (const tensor of own) this.#device.free(tensor);
    }
  }

  async #make(set: AdapterSet, rows: readonly RowAdapter[]): Promise<{ feeds: Feeds; own: GpuTensor[] }> {
    const own: GpuTensor[] = [];
    const keep = (tensor: GpuTensor) => {
      own.push(tensor);
      return tensor;
    };
    try {
      const feeds: Feeds = {};
      const shares = rows.map(sharesOf);
      const byLayout = new Map<string, { mine: GpuTensor; weights: GpuTensor }>();
      for (const { key } of this.#graph.groups) {
        const { segments } = set.pairs.get(key)!;
        // Groups in which the adapters have the same ranks share what is fed.
        const layout = segments.map(({ digest, rank, always }) => `${digest}:${rank}:${always}`).join();
        let choice = byLayout.get(layout);
        if (choice === undefined) {
          const { mine, values, ranks } = choose(segments, shares);
          const dims = [rows.length, ranks];
          choice = {
            mine: keep(await this.#device.upload('bool', mine, dims)),
            weights: keep(await this.#floats(values, dims)),
          };
          byLayout.set(layout, choice);
        }
        feeds[gpuInputs.mine(key)] = choice.mine;
        feeds[gpuInputs.weights(key)] = choice.weights;
      }
      if (this.#graph.variant === 'full') await this.#vectors(rows, feeds, keep);
      return { feeds, own };
    } catch (error) {
      for (const tensor of own) this.#device.free(tensor);
      throw error;
    }
  }

  /** Gains, biases and norm weights of the rows; the neutral ones where no row has any. */
  async #vectors(rows: readonly RowAdapter[], feeds: Feeds, keep: (tensor: GpuTensor) => GpuTensor): Promise<void> {
    this.#neutral ??= await this.#neutralFeeds();
    Object.assign(feeds, this.#neutral);
    const send = async (name: string, width: number, valuesOf: (row: RowAdapter) => Float32Array) => {
      const values = new Float32Array(rows.length * width);
      for (const [i, row] of rows.entries()) values.set(valuesOf(row), i * width);
      feeds[name] = keep(await this.#floats(values, [rows.length, width]));
    };
    for (const group of this.#graph.groups) {
      const { key, linears, outFeatures } = group;
      if (rows.some(({ gains }) => linears.some(({ module }) => gains.has(module))))
        await send(gpuInputs.gain(key), outFeatures, ({ gains }) => sideBySide(group, gains, 1));
      if (rows.some(({ biases }) => linears.some(({ module }) => biases.has(module)))) {
        const base = groupBias(group, this.#small);
        await send(gpuInputs.bias(key), outFeatures, ({ biases }) => {
          const values = sideBySide(group, biases, 0);
          return base === undefined ? values : values.map((value, i) => value + base[i]!);
        });
      }
    }
    for (const { norm, weight, bias } of this.#graph.norms) {
      // A family that stores norm weights as offsets from 1 does so in adapters, too.
      const shift = norm.plusOne === true ? 1 : 0;
      const { module, width } = norm;
      if (rows.some(({ norms }) => norms.has(module)))
        await send(gpuInputs.norm(module), width, ({ norms }) => norms.get(module)?.map((v) => v + shift) ?? weight);
      if (bias !== undefined && rows.some(({ normBiases }) => normBiases.has(module)))
        await send(gpuInputs.normBias(module), width, ({ normBiases }) => normBiases.get(module) ?? bias);
    }
  }

  async #neutralFeeds(): Promise<Feeds> {
    const feeds: Feeds = {};
    const one = await this.#floats(Float32Array.of(1), [1, 1]);
    const zero = await this.#floats(Float32Array.of(0), [1, 1]);
    for (const group of this.#graph.groups) {
      const bias = groupBias(group, this.#small);
      feeds[gpuInputs.gain(group.key)] = one;
      feeds[gpuInputs.bias(group.key)] = bias === undefined ? zero : await this.#floats(bias, [1, bias.length]);
    }
    for (const { norm, weight, bias } of this.#graph.norms) {
      feeds[gpuInputs.norm(norm.module)] = await this.#floats(weight, [1, weight.length]);
      if (bias !== undefined) feeds[gpuInputs.normBias(norm.module)] = await this.#floats(bias, [1, bias.length]);
    }
    return feeds;
  }

  #floats(values: Float32Array, dims: readonly number[]): Promise<GpuTensor> {
    const { half } = this.#precision;
    return this.#device.upload(elementType(this.#precision), half ? toHalf(values, 'an adapter') : values, dims);
  }
}

/** An adapter in a row's selection. */
interface Share {
  readonly weight: number;
  /** True: before its invocation. */
  readonly idle: boolean;
}

/** The adapters of a row's selection by digest. */
function sharesOf({ parts }: RowAdapter): Map<string, Share> {
  const shares = new Map<string, Share>();
  for (const { adapter, weight, idle = false } of parts)
    shares.set(adapter.digest, { weight: (shares.get(adapter.digest)?.weight ?? 0) + weight, idle });
  return shares;
}

/** Which ranks are each row's own, and with what weight: [rows, ranks] each. */
function choose(
  segments: readonly Segment[],
  rows: readonly ReadonlyMap<string, Share>[],
): { mine: Uint8Array; values: Float32Array; ranks: number } {
  const ranks = segments.reduce((sum, { rank }) => sum + rank, 0);
  const mine = new Uint8Array(rows.length * ranks);
  const values = new Float32Array(rows.length * ranks);
  for (const [i, shares] of rows.entries()) {
    let at = i * ranks;
    for (const { digest, rank, always } of segments) {
      const share = shares.get(digest);
      if (share !== undefined && (always || !share.idle)) {
        mine.fill(1, at, at + rank);
        values.fill(share.weight, at, at + rank);
      }
      at += rank;
    }
  }
  return { mine, values, ranks };
}

/** [out] of a group: a linear's own values, or `neutral` where it has none. */
function sideBySide(group: LinearGroup, values: ReadonlyMap<string, Float32Array>, neutral: number): Float32Array {
  const joined = new Float32Array(group.outFeatures).fill(neutral);
  let at = 0;
  for (const { module, outFeatures } of group.linears) {
    const own = values.get(module);
    if (own !== undefined) joined.set(own, at);
    at += outFeatures;
  }
  return joined;
}
