/**
 * Runs one step on the sessions: a prefill chunk of one row, or one decode over all slots of a batch. It owns no row and
 * no policy; it turns token ids, positions, caches and selections into feeds, and writes the new keys and values back.
 */

import type { BoundAdapter } from '../adapters/types.js';
import { type DecoderGraph, maskInput } from '../model/decoder-graph.js';
import type { DecoderSpec } from '../model/spec.js';
import type { DecodeSlot, LargestLogits, PrefillSlot, StepBackend } from './backend.js';
import type { KeptWeights } from './converted-weights.js';
import type { DecoderSession } from './decoder-session.js';
import type { EmbeddingTable } from './embedding-table.js';
import { GraphSessions, type SessionOpener } from './graph-sessions.js';
import { KvStore } from './kv-store.js';
import { LoraChoice } from './lora-choice.js';
import { WORTH_PIECES } from './lora-feeds.js';
import * as ort from './ort.js';
import { BASE_ROW, type RowAdapter } from './row-adapter.js';
import { int64, maskTensor, ropeFeeds, type StepShape, shapeFeeds } from './step-inputs.js';
import { embedded, type StepTokens } from './step-tokens.js';

/** Past positions are fed in multiples of this, so that shapes, masks and sums change rarely. */
const PAST_BLOCK = 32;

/** Everything a run needs besides the adapter inputs; its tokens are in the order [sequence, batch]. */
interface Step extends StepTokens {
  readonly shape: StepShape;
  /** Real past positions by slot; -1 = free slot. */
  readonly lengths: Int32Array;
  /** Outputs of the graph besides new keys and values. */
  readonly fetched: (graph: DecoderGraph) => readonly string[];
}

/** What came out of a step. */
interface StepOutputs {
  readonly graph: DecoderGraph;
  /** An output that was fetched. */
  floats(name: string): Float32Array;
  /** The same, of whole numbers. */
  integers(name: string): readonly number[];
  /** New keys and values, [rows, kvHeads * headDim] each. */
  readonly layers: readonly { readonly keys: Float32Array; readonly values: Float32Array }[];
}

const LOGITS = (graph: DecoderGraph): readonly string[] => [graph.logits];

/** Runs steps of one model on the CPU. Not re-entrant: one step at a time. */
export class StepRunner implements StepBackend {
  readonly spec: DecoderSpec;
  readonly guessesPay = true;
  readonly #table: EmbeddingTable;
  readonly #sessions: GraphSessions;
  readonly #lora: LoraChoice;
  readonly kept: KeptWeights | undefined;
  /** Milliseconds spent inside onnxruntime. */
  runMs = 0;
  headInputs: Float32Array | undefined;
  largest: LargestLogits | undefined;

  /**
   * @param opener opens the graphs that adapters need; undefined = only the sessions given are there
   * @param worthPieces see {@link SlotFeeds}
   */
  constructor(
    spec: DecoderSpec,
    table: EmbeddingTable,
    sessions: readonly DecoderSession[],
    opener?: SessionOpener,
    worthPieces = WORTH_PIECES,
  ) {
    this.spec = spec;
    this.kept = opener?.kept;
    this.#table = table;
    this.#sessions = new GraphSessions(opener);
    this.#lora = new LoraChoice(this.#sessions, worthPieces);
    for (const session of sessions) this.addSession(session);
  }

  get positionBytes(): number {
    const { layers, kvHeads, headDim } = this.spec;
    return layers.length * 2 * kvHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
  }

  /** Makes another graph variant available. */
  addSession(session: DecoderSession): void {
    this.#sessions.add(session);
  }

  /** Floats of keys per position and layer. */
  get kvWidth(): number {
    return this.spec.kvHeads * this.spec.headDim;
  }

  createStore(slots: number, capacity: number): KvStore {
    return new KvStore(this.spec.layers.length, this.kvWidth, slots, capacity);
  }

  load(adapter: BoundAdapter): Promise<void> {
    return this.#sessions.openFor(adapter);
  }

  openAhead(): Promise<boolean> {
    return this.#sessions.openAhead();
  }

  expectOthers(): void {
    this.#sessions.othersExpected = true;
  }

  /**
   * Runs `ids` at positions `length`.. of a one-slot store and appends their keys and values.
   * @param logitRows indices into `ids` whose logits are wanted; empty = none
   * @param horizon most tokens that the row may come to hold
   * @returns logits [logitRows, vocab]
   */
  async prefill(
    ids: readonly number[],
    length: number,
    store: KvStore,
    adapter: RowAdapter,
    logitRows: readonly number[],
    horizon = length + ids.length,
  ): Promise<Float32Array> {
    const outputs = await this.#run(store, {
      shape: { sequence: ids.length, batch: 1, past: this.#reservePast(store, length, ids.length) },
      ids,
      positions: Int32Array.from(ids, (_, i) => length + i),
      lengths: Int32Array.of(length),
      adapters: [adapter],
      // The graph wants at least one row; the last one is cheap, and nobody fetches it.
      logitRows: logitRows.length === 0 ? [ids.length - 1] : logitRows,
      horizonOf: () => horizon,
      fetched: logitRows.length === 0 ? () => [] : LOGITS,
    });
    for (const [layer, { keys, values }] of outputs.layers.entries()) store.append(layer, length, keys, values);
    return logitRows.length === 0 ? new Float32Array(0) : outputs.floats(outputs.graph.logits);
  }

  /** Prompts side by side, padded at their ends: what a padded position computes is seen by no token and kept by no row. */
  async prefillTogether(slots: readonly PrefillSlot[], store: KvStore, adapter: RowAdapter): Promise<Float32Array> {
    const batch = slots.length;
    const sequence = slots.reduce((most, { ids }) => Math.max(most, ids.length), 0);
    const outputs = await this.#run(store, {
      shape: { sequence, batch, past: this.#reservePast(store, 0, sequence) },
      ids: Array.from(
        { length: sequence * batch },
        (_, token) => slots[token % batch]!.ids[Math.floor(token / batch)] ?? 0,
      ),
      positions: Int32Array.from({ length: sequence * batch }, (_, token) => Math.floor(token / batch)),
      lengths: new Int32Array(batch),
      adapters: [adapter],
      logitRows: slots.map(({ ids }, slot) => (ids.length - 1) * batch + slot),
      horizonOf: (token) => slots[token % batch]!.horizon,
      fetched: LOGITS,
    });
    for (const [layer, { keys, values }] of outputs.layers.entries()) store.append(layer, 0, keys, values);
    return outputs.floats(outputs.graph.logits);
  }

  /**
   * One token for every slot of `store`.
   * @param slots by slot number; undefined = free slot
   * @returns logits [slots, vocab]; those of free slots mean nothing
   */
  async decode(slots: readonly (DecodeSlot | undefined)[], store: KvStore): Promise<Float32Array> {
    const outputs = await this.#decode(slots, store, ({ logits, largest }) => [logits, ...Object.values(largest)]);
    this.largest = largestOf(outputs);
    return outputs.floats(outputs.graph.logits);
  }

  async decodeGreedy(slots: readonly (DecodeSlot | undefined)[], store: KvStore): Promise<LargestLogits> {
    return largestOf(await this.#decode(slots, store, ({ largest }) => Object.values(largest)));
  }

  async #decode(
    slots: readonly (DecodeSlot | undefined)[],
    store: KvStore,
    fetched: Step['fetched'],
  ): Promise<StepOutputs> {
    const lengths = Int32Array.from(slots, (slot) => slot?.length ?? -1);
    const positions = lengths.map((length) => Math.max(0, length));
    const longest = positions.reduce((most, length) => Math.max(most, length), 0);
    const outputs = await this.#run(store, {
      shape: { sequence: 1, batch: slots.length, past: this.#reservePast(store, longest, 1) },
      ids: slots.map((slot) => slot?.token ?? 0),
      positions,
      lengths,
      adapters: slots.map((slot) => slot?.adapter ?? BASE_ROW),
      logitRows: slots.map((_, slot) => slot),
      horizonOf: (slot) => slots[slot]?.horizon ?? 0,
      fetched,
    });
    for (const [layer, { keys, values }] of outputs.layers.entries()) store.scatter(layer, lengths, keys, values);
    return outputs;
  }

  /** Drops references to adapter arrays. */
  unload(): void {
    this.#lora.clear();
  }

  /** Nothing to do: sessions go with the thread. */
  async close(): Promise<void> {}

  /** Past positions to feed; the store gets room for them and for the new tokens. */
  #reservePast(store: KvStore, length: number, tokens: number): number {
    // onnxruntime multiplies no matrix without rows, so a prompt's beginning sees one position, which the mask hides.
    const past = Math.max(1, Math.ceil(length / PAST_BLOCK) * PAST_BLOCK);
    store.reserve(Math.max(past, length + tokens));
    return past;
  }

  async #run(store: KvStore, step: Step): Promise<StepOutputs> {
    const { shape, positions, lengths, adapters } = step;
    const { kvHeads, queryHeads, headDim, hiddenSize, layers, ropes } = this.spec;
    const live = adapters.filter((_, slot) => lengths[slot]! >= 0);
    const lora = this.#lora.inputs(store, step, live);
    const session = this.#sessions.of(lora.variant);
    const { graph } = session;
    const rows = graph.grouped ? [lora.groups, positions.length / lora.groups] : [positions.length];
    const feeds: Record<string, ort.Tensor> = {
      embeds: new ort.Tensor('float32', embedded(this.#table, step), [...rows, hiddenSize]),
      logit_rows: int64(step.logitRows),
      ...shapeFeeds(this.spec, shape),
      ...ropeFeeds(ropes, positions, step.horizonOf),
      ...lora.feeds,
    };
    for (const window of graph.windows)
      feeds[maskInput(window)] = maskTensor(shape, lengths, queryHeads / kvHeads, window);
    const dims = [shape.past, shape.batch, kvHeads, headDim];
    const size = shape.past * shape.batch * this.kvWidth;
    for (let layer = 0; layer < layers.length; layer += 1) {
      feeds[`past_k.${layer}`] = new ort.Tensor('float32', store.keys[layer]!.subarray(0, size), dims);
      feeds[`past_v.${layer}`] = new ort.Tensor('float32', store.values[layer]!.subarray(0, size), dims);
    }
    this.largest = undefined;
    const start = performance.now();
    const beyond = live.some(({ vocabulary }) => vocabulary !== undefined) ? [graph.headInput] : [];
    const outputs = await session.run(feeds, [...step.fetched(graph), ...beyond, ...graph.keys, ...graph.values]);
    this.runMs += performance.now() - start;
    const floats = (name: string) => outputs[name]!.data as Float32Array;
    this.headInputs = beyond.map(floats)[0];
    return {
      graph,
      floats,
      integers: (name) => Array.from(outputs[name]!.data as BigInt64Array, Number),
      layers: graph.keys.map((name, layer) => ({ keys: floats(name), values: floats(graph.values[layer]!) })),
    };
  }
}

function largestOf({ graph: { largest }, floats, integers }: StepOutputs): LargestLogits {
  return { ids: integers(largest.ids), logits: floats(largest.logits), logprobs: floats(largest.logprobs) };
}
