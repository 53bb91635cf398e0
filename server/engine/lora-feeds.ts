/**
 * The adapter inputs of a step. When all rows share one selection (a prefill, or a batch of one adapter) its arrays are
 * fed as they are, one group for all rows; otherwise neighbouring slots of one selection are a group, and the groups'
 * weights are copied side by side into buffers that are rewritten only where a group's selection changed.
 */
import * as ort from 'onnxruntime-node';
import type { DecoderGraph } from '../model/decoder-graph.js';
import { siteInputs } from '../model/graph-sites.js';
import { BASE_ROW, type LowRank, type RowAdapter } from './row-adapter.js';
import { rowGroups } from './row-groups.js';
import { int64 } from './step-inputs.js';
import { vectorFeeds } from './vector-feeds.js';

/** Buffers of one linear: room for `capacity` groups of [rank, in] and [rank, out], of which a step sees the first ones. */
interface SiteBuffers {
  readonly rank: number;
  readonly capacity: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** The adapter inputs of a step, and the number of groups into which they divide its rows. */
export interface LoraInputs {
  readonly groups: number;
  readonly feeds: Record<string, ort.Tensor>;
}

/** Builds and caches the adapter inputs for one graph. */
export class LoraFeeds {
  readonly #graph: DecoderGraph;
  readonly #buffers = new Map<string, SiteBuffers>();
  /** What each group's part of the buffers of all sites holds; groups behind its end = unknown. */
  readonly #held: string[] = [];
  #shared: { key: string; inputs: LoraInputs } | undefined;
  #mixed: { key: string; inputs: LoraInputs } | undefined;

  constructor(graph: DecoderGraph) {
    this.#graph = graph;
  }

  /** One selection for all rows of the step. */
  shared(adapter: RowAdapter): LoraInputs {
    if (this.#shared?.key === adapter.key) return this.#shared.inputs;
    const feeds = { ...this.#groups(1), ...this.#vectors([adapter]) };
    for (const { module, inFeatures, outFeatures } of this.#graph.linears) {
      const pair = adapter.linears.get(module);
      const rank = pair?.rank ?? 0;
      feeds[siteInputs.a(module)] = new ort.Tensor('float32', pair?.a ?? EMPTY, [1, rank, inFeatures]);
      feeds[siteInputs.b(module)] = new ort.Tensor('float32', pair?.b ?? EMPTY, [1, rank, outFeatures]);
    }
    const inputs = { groups: 1, feeds };
    this.#shared = { key: adapter.key, inputs };
    return inputs;
  }

  /** One selection per slot; undefined = the slot is free. */
  bySlot(slots: readonly (RowAdapter | undefined)[]): LoraInputs {
    const key = slots.map((slot) => slot?.key ?? 'free').join('|');
    if (this.#mixed?.key === key) return this.#mixed.inputs;
    // Gains, biases and norm weights are given by slot, and so are the groups of a graph that has them.
    const full = this.#graph.variant === 'full';
    const adapters = (full ? slots : rowGroups(slots)).map((adapter) => adapter ?? BASE_ROW);
    const groups = adapters.length;
    const feeds = { ...this.#groups(groups), ...this.#vectors(adapters) };
    const changed = adapters.flatMap((adapter, group) => (this.#held[group] === adapter.key ? [] : [group]));
    let renewed = false;
    for (const { module, inFeatures, outFeatures } of this.#graph.linears) {
      const pairs = adapters.map((adapter) => adapter.linears.get(module));
      const rank = pairs.reduce((most, pair) => Math.max(most, pair?.rank ?? 0), 0);
      const known = this.#buffers.get(module);
      const fits = known !== undefined && known.rank === rank && known.capacity >= groups;
      const buffers = fits ? known : siteBuffers(groups, rank, inFeatures, outFeatures);
      this.#buffers.set(module, buffers);
      renewed ||= !fits;
      for (const group of fits ? changed : pairs.keys()) fill(buffers, group, pairs[group], inFeatures, outFeatures);
      const view = (values: Float32Array, width: number) =>
        new ort.Tensor('float32', values.subarray(0, groups * rank * width), [groups, rank, width]);
      feeds[siteInputs.a(module)] = view(buffers.a, inFeatures);
      feeds[siteInputs.b(module)] = view(buffers.b, outFeatures);
    }
    // What lies behind these groups stays what it was, except in new buffers, which have nothing there.
    if (renewed) this.#held.length = Math.min(this.#held.length, groups);
    for (const [group, adapter] of adapters.entries()) this.#held[group] = adapter.key;
    const inputs = { groups, feeds };
    this.#mixed = { key, inputs };
    return inputs;
  }

  /** Forgets cached inputs that may hold an unloaded adapter's arrays. */
  clear(): void {
    this.#shared = undefined;
    this.#mixed = undefined;
  }

  #vectors(adapters: readonly RowAdapter[]): Record<string, ort.Tensor> {
    return this.#graph.variant === 'full' ? vectorFeeds(this.#graph, adapters) : {};
  }

  #groups(groups: number): Record<string, ort.Tensor> {
    return Object.fromEntries(
      this.#graph.groupWidths.map((width) => [siteInputs.group(width), int64([groups, -1, width])]),
    );
  }
}

const EMPTY = new Float32Array(0);

/** Room for twice as many groups at each growth, so that a batch that grows slot by slot is not copied as often. */
function siteBuffers(groups: number, rank: number, inFeatures: number, outFeatures: number): SiteBuffers {
  const capacity = 2 ** Math.ceil(Math.log2(groups));
  const room = (width: number) => new Float32Array(capacity * rank * width);
  return { rank, capacity, a: room(inFeatures), b: room(outFeatures) };
}

/** Writes a group's pair and zeroes what its rank leaves over: a stale rank row could otherwise still add something. */
function fill(
  buffers: SiteBuffers,
  group: number,
  pair: LowRank | undefined,
  inFeatures: number,
  outFeatures: number,
): void {
  for (const [target, source, width] of [
    [buffers.a, pair?.a, inFeatures],
    [buffers.b, pair?.b, outFeatures],
  ] as const) {
    const start = group * buffers.rank * width;
    if (source !== undefined) target.set(source, start);
    target.fill(0, start + (source?.length ?? 0), start + buffers.rank * width);
  }
}
