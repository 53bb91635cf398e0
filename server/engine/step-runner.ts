/**
 * Runs one step on the sessions: a prefill chunk of one row, or one decode over all slots of a batch. It owns no row and
 * no policy; it turns token ids, positions, caches and selections into feeds, and writes the new keys and values back.
 */
import * as ort from 'onnxruntime-node';
import { maskInput } from '../model/decoder-graph.js';
import type { DecoderSpec } from '../model/spec.js';
import type { DecoderSession } from './decoder-session.js';
import type { EmbeddingTable } from './embedding-table.js';
import type { KvStore } from './kv-store.js';
import { LoraFeeds } from './lora-feeds.js';
import { BASE_ROW, type RowAdapter } from './row-adapter.js';
import { int64, maskTensor, ropeFeeds, type StepShape, shapeFeeds } from './step-inputs.js';

/** Past positions are fed in multiples of this, so that shapes, masks and sums change rarely. */
const PAST_BLOCK = 32;

/** One slot of a decode step. */
export interface DecodeSlot {
  readonly token: number;
  /** Tokens of the row that are in the store already; the new token's position. */
  readonly length: number;
  readonly adapter: RowAdapter;
}

/** Sessions by variant; `lora` is absent where a model is served without adapters. */
export interface Sessions {
  readonly base: DecoderSession;
  readonly lora: DecoderSession | undefined;
}

/** Runs steps of one model. Not re-entrant: one step at a time. */
export class StepRunner {
  readonly spec: DecoderSpec;
  readonly #sessions: Sessions;
  readonly #table: EmbeddingTable;
  readonly #lora: LoraFeeds | undefined;
  /** Milliseconds spent inside onnxruntime. */
  runMs = 0;

  constructor(spec: DecoderSpec, sessions: Sessions, table: EmbeddingTable) {
    this.spec = spec;
    this.#sessions = sessions;
    this.#table = table;
    this.#lora = sessions.lora === undefined ? undefined : new LoraFeeds(sessions.lora.graph);
  }

  /** Floats of keys per position and layer. */
  get kvWidth(): number {
    return this.spec.kvHeads * this.spec.headDim;
  }

  /**
   * Runs `ids` at positions `length`.. of a one-slot store and appends their keys and values.
   * @param logitRows indices into `ids` whose logits are wanted; empty = none
   * @returns logits [logitRows, vocab]
   */
  async prefill(
    ids: readonly number[],
    length: number,
    store: KvStore,
    adapter: RowAdapter,
    logitRows: readonly number[],
  ): Promise<Float32Array> {
    const positions = Int32Array.from(ids, (_, i) => length + i);
    const past = this.#reservePast(store, length, ids.length);
    const shape: StepShape = { sequence: ids.length, batch: 1, past };
    const session = this.#session(adapter.key === '');
    const wanted = logitRows.length === 0 ? [ids.length - 1] : logitRows;
    const outputs = await this.#run(
      session,
      shape,
      this.#embed(ids, positions),
      positions,
      Int32Array.of(length),
      store,
      wanted,
      () => this.#lora!.shared(adapter),
    );
    for (let layer = 0; layer < this.spec.layers.length; layer += 1) {
      store.append(
        layer,
        length,
        floats(outputs, session.graph.keys[layer]!),
        floats(outputs, session.graph.values[layer]!),
      );
    }
    return floats(outputs, session.graph.logits);
  }

  /**
   * One token for every slot of `store`.
   * @param slots by slot number; undefined = free slot
   * @returns logits [slots, vocab]; those of free slots mean nothing
   */
  async decode(slots: readonly (DecodeSlot | undefined)[], store: KvStore): Promise<Float32Array> {
    const batch = slots.length;
    const lengths = Int32Array.from(slots, (slot) => slot?.length ?? -1);
    const positions = lengths.map((length) => Math.max(0, length));
    const longest = positions.reduce((most, length) => Math.max(most, length), 0);
    const shape: StepShape = { sequence: 1, batch, past: this.#reservePast(store, longest, 1) };
    const adapters = slots.map((slot) => slot?.adapter ?? BASE_ROW);
    const live = slots.flatMap((slot) => (slot === undefined ? [] : [slot.adapter]));
    const session = this.#session(live.every(({ key }) => key === ''));
    const embeds = this.#embed(
      slots.map((slot) => slot?.token ?? 0),
      positions,
    );
    const rows = Array.from({ length: batch }, (_, i) => i);
    const outputs = await this.#run(session, shape, embeds, positions, lengths, store, rows, () =>
      live.every(({ key }) => key === live[0]!.key) ? this.#lora!.shared(live[0]!) : this.#lora!.perSlot(adapters),
    );
    for (let layer = 0; layer < this.spec.layers.length; layer += 1) {
      store.scatter(
        layer,
        lengths,
        floats(outputs, session.graph.keys[layer]!),
        floats(outputs, session.graph.values[layer]!),
      );
    }
    return floats(outputs, session.graph.logits);
  }

  /** Drops references to adapter arrays; called when an adapter is unloaded. */
  forgetAdapters(): void {
    this.#lora?.clear();
  }

  #session(allBase: boolean): DecoderSession {
    const session = allBase ? this.#sessions.base : this.#sessions.lora;
    if (session === undefined) throw new Error('a row names an adapter, but the model was opened without LoRA');
    return session;
  }

  /** Past positions to feed; the store gets room for them and for the new tokens. */
  #reservePast(store: KvStore, length: number, tokens: number): number {
    const past = Math.max(1, Math.ceil(length / PAST_BLOCK)) * PAST_BLOCK;
    store.reserve(Math.max(past, length + tokens));
    return past;
  }

  /** Embedding rows [tokens, hidden] of the ids at their positions. */
  #embed(ids: readonly number[], positions: Int32Array): Float32Array {
    const { hidden } = this.#table;
    const rows = new Float32Array(ids.length * hidden);
    for (const [i, id] of ids.entries()) {
      this.#table.row(id, rows, i * hidden);
      this.#table.finish(positions[i]!, rows, i * hidden);
    }
    return rows;
  }

  async #run(
    session: DecoderSession,
    shape: StepShape,
    embeds: Float32Array,
    positions: Int32Array,
    lengths: Int32Array,
    store: KvStore,
    logitRows: readonly number[],
    loraFeeds: () => Record<string, ort.Tensor>,
  ): Promise<Record<string, ort.Tensor>> {
    const { graph } = session;
    const { kvHeads, headDim, hiddenSize, layers, ropes } = this.spec;
    const feeds: Record<string, ort.Tensor> = {
      embeds: new ort.Tensor('float32', embeds, [positions.length, hiddenSize]),
      logit_rows: int64(logitRows),
      ...shapeFeeds(this.spec, shape),
      ...ropeFeeds(ropes, positions),
      ...(graph.variant === 'base' ? {} : loraFeeds()),
    };
    for (const window of graph.windows) feeds[maskInput(window)] = maskTensor(shape, lengths, window);
    const dims = [shape.past, shape.batch, kvHeads, 1, headDim];
    const size = shape.past * shape.batch * this.kvWidth;
    for (let layer = 0; layer < layers.length; layer += 1) {
      feeds[`past_k.${layer}`] = new ort.Tensor('float32', store.keys[layer]!.subarray(0, size), dims);
      feeds[`past_v.${layer}`] = new ort.Tensor('float32', store.values[layer]!.subarray(0, size), dims);
    }
    const start = performance.now();
    const outputs = await session.run(feeds, [graph.logits, ...graph.keys, ...graph.values]);
    this.runMs += performance.now() - start;
    return outputs;
  }
}

function floats(outputs: Record<string, ort.Tensor>, name: string): Float32Array {
  return outputs[name]!.data as Float32Array;
}
