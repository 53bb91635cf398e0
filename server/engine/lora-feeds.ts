/**
 * The adapter inputs of a step. When all rows share one selection (a prefill, or a batch of one adapter) its arrays are
 * fed as they are, one group for all rows; otherwise every slot is a group of its own, with its weights copied side by
 * side into buffers that are rewritten only where a slot's selection changed.
 */
import * as ort from 'onnxruntime-node';
import type { DecoderGraph } from '../model/decoder-graph.js';
import { siteInputs } from '../model/graph-sites.js';
import type { LowRank, RowAdapter } from './row-adapter.js';
import { int64 } from './step-inputs.js';
import { vectorFeeds } from './vector-feeds.js';

/** Buffers of one linear: `slots` groups of [rank, in] and [rank, out]. */
interface SiteBuffers {
  rank: number;
  a: Float32Array;
  b: Float32Array;
  tensors: { a: ort.Tensor; b: ort.Tensor };
}

/** Builds and caches the adapter inputs for one graph. */
export class LoraFeeds {
  readonly #graph: DecoderGraph;
  readonly #buffers = new Map<string, SiteBuffers>();
  /** What each slot's part of the buffers holds; undefined = unknown. */
  #held: (string | undefined)[] = [];
  #shared: { key: string; feeds: Record<string, ort.Tensor> } | undefined;
  #mixed: { key: string; feeds: Record<string, ort.Tensor> } | undefined;

  constructor(graph: DecoderGraph) {
    this.#graph = graph;
  }

  /** One selection for all rows of the step. */
  shared(adapter: RowAdapter): Record<string, ort.Tensor> {
    if (this.#shared?.key === adapter.key) return this.#shared.feeds;
    const feeds = { ...this.#groups(1), ...this.#vectors([adapter]) };
    for (const { module, inFeatures, outFeatures } of this.#graph.linears) {
      const pair = adapter.linears.get(module);
      const rank = pair?.rank ?? 0;
      feeds[siteInputs.a(module)] = new ort.Tensor('float32', pair?.a ?? EMPTY, [1, rank, inFeatures]);
      feeds[siteInputs.b(module)] = new ort.Tensor('float32', pair?.b ?? EMPTY, [1, rank, outFeatures]);
    }
    this.#shared = { key: adapter.key, feeds };
    return feeds;
  }

  /** One selection per slot; free slots count as base. */
  perSlot(adapters: readonly RowAdapter[]): Record<string, ort.Tensor> {
    const slots = adapters.length;
    const key = adapters.map((adapter) => adapter.key).join('|');
    if (this.#mixed?.key === key) return this.#mixed.feeds;
    const feeds = { ...this.#groups(slots), ...this.#vectors(adapters) };
    const changed = adapters.flatMap((adapter, slot) =>
      this.#held.length === slots && this.#held[slot] === adapter.key ? [] : [slot],
    );
    for (const { module, inFeatures, outFeatures } of this.#graph.linears) {
      const pairs = adapters.map((adapter) => adapter.linears.get(module));
      const rank = pairs.reduce((most, pair) => Math.max(most, pair?.rank ?? 0), 0);
      let buffers = this.#buffers.get(module);
      const fits = buffers !== undefined && buffers.rank === rank && this.#held.length === slots;
      if (!fits || buffers === undefined) {
        const a = new Float32Array(slots * rank * inFeatures);
        const b = new Float32Array(slots * rank * outFeatures);
        const tensors = {
          a: new ort.Tensor('float32', a, [slots, rank, inFeatures]),
          b: new ort.Tensor('float32', b, [slots, rank, outFeatures]),
        };
        buffers = { rank, a, b, tensors };
        this.#buffers.set(module, buffers);
        for (const [slot, pair] of pairs.entries())
          if (pair !== undefined) fill(buffers, slot, pair, inFeatures, outFeatures);
      } else {
        for (const slot of changed) fill(buffers, slot, pairs[slot], inFeatures, outFeatures);
      }
      feeds[siteInputs.a(module)] = buffers.tensors.a;
      feeds[siteInputs.b(module)] = buffers.tensors.b;
    }
    this.#held = adapters.map((adapter) => adapter.key);
    this.#mixed = { key, feeds };
    return feeds;
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

/** Writes a slot's pair and zeroes what its rank leaves over: a stale rank row could otherwise still add something. */
function fill(
  buffers: SiteBuffers,
  slot: number,
  pair: LowRank | undefined,
  inFeatures: number,
  outFeatures: number,
): void {
  for (const [target, source, width] of [
    [buffers.a, pair?.a, inFeatures],
    [buffers.b, pair?.b, outFeatures],
  ] as const) {
    const start = slot * buffers.rank * width;
    if (source !== undefined) target.set(source, start);
    target.fill(0, start + (source?.length ?? 0), start + buffers.rank * width);
  }
}
