/**
 * Runs steps on the WebGPU provider. What crosses to the device in a step is the tokens' embeddings, rotary rows and
 * lengths; what comes back is logits, or the largest of them. Weights, caches and adapters stay there.
 */

import type { BoundAdapter } from '../../adapters/types.js';
import type { ModelFolder } from '../../model/model-folder.js';
import type { DecoderSpec } from '../../model/spec.js';
import { toFloats } from '../../model/webgpu/gpu-precision.js';
import { type DecodeSlot, type LargestLogits, type StepBackend, StoreLost } from '../backend.js';
import type { EmbeddingTable } from '../embedding-table.js';
import * as ort from '../ort.js';
import { needsFullGraph, type RowAdapter } from '../row-adapter.js';
import { ropeFeeds } from '../step-inputs.js';
import { embedded, variantFor } from '../step-tokens.js';
import type { DeviceStore } from './device-store.js';
import type { GpuTensor } from './gpu-device.js';
import type { GpuModel, GpuModelOptions, OpenGraph } from './gpu-model.js';
import { decodeStep, type Step } from './gpu-step.js';
import { GpuStore } from './gpu-store.js';
import { LiveModel } from './live-model.js';
import { PagedStore } from './paged-store.js';

/** No free slots. */
const NONE: ReadonlySet<number> = new Set();

/** Runs steps of one model on the device. Not re-entrant: one step at a time. */
export class GpuRunner implements StepBackend {
  readonly spec: DecoderSpec;
  readonly #table: EmbeddingTable;
  readonly #live: LiveModel;
  runMs = 0;
  headInputs: Float32Array | undefined;

  private constructor(spec: DecoderSpec, table: EmbeddingTable, live: LiveModel) {
    this.spec = spec;
    this.#table = table;
    this.#live = live;
  }

  /** Puts the model on the device. Throws when there is none, or when it has too little memory. */
  static async open(folder: ModelFolder, table: EmbeddingTable, options: GpuModelOptions): Promise<GpuRunner> {
    return new GpuRunner(folder.spec, table, await LiveModel.open(folder, options));
  }

  /** The model as it is on the device now. */
  get model(): GpuModel {
    return this.#live.model;
  }

  get positionBytes(): number {
    return this.model.caches.bytes(1, 1);
  }

  get restarts(): number {
    return this.#live.restarts;
  }

  get broken(): Error | undefined {
    return this.#live.broken;
  }

  createStore(slots: number, capacity: number): DeviceStore {
    const { device, caches, queue, pages } = this.model;
    return pages === undefined
      ? new GpuStore(device, caches, queue, slots, capacity)
      : new PagedStore(device, pages, slots, capacity);
  }

  async prefill(
    ids: readonly number[],
    length: number,
    store: DeviceStore,
    adapter: RowAdapter,
    logitRows: readonly number[],
    horizon = length + ids.length,
  ): Promise<Float32Array> {
    const { vocabSize, hiddenSize } = this.spec;
    const logits = new Float32Array(logitRows.length * vocabSize);
    const inputs = adapter.vocabulary === undefined ? undefined : new Float32Array(logitRows.length * hiddenSize);
    const most = this.model.attention.maxTokens;
    for (let from = 0; from < ids.length; from += most) {
      const block = ids.slice(from, from + most);
      const wanted = [...logitRows.entries()].filter(([, row]) => row >= from && row < from + block.length);
      const step: Step = {
        batch: 1,
        ids: block,
        positions: Int32Array.from(block, (_, i) => length + from + i),
        lengths: Int32Array.of(length + from),
        free: NONE,
        adapters: [adapter],
        // The graph wants at least one row; the last one is cheap.
        logitRows: wanted.length === 0 ? [block.length - 1] : wanted.map(([, row]) => row - from),
        horizonOf: () => horizon,
      };
      const got = await this.#logits(store, step);
      for (const [i, [at]] of wanted.entries()) {
        logits.set(got.subarray(i * vocabSize, (i + 1) * vocabSize), at * vocabSize);
        inputs?.set(this.headInputs!.subarray(i * hiddenSize, (i + 1) * hiddenSize), at * hiddenSize);
      }
    }
    this.headInputs = inputs;
    return logits;
  }

  async decode(slots: readonly (DecodeSlot | undefined)[], store: DeviceStore): Promise<Float32Array> {
    return this.#logits(store, decodeStep(slots));
  }

  async decodeGreedy(slots: readonly (DecodeSlot | undefined)[], store: DeviceStore): Promise<LargestLogits> {
    const step = decodeStep(slots);
    return this.#on(store, step, async (model) => {
      const logits = await store.logits(this.spec.vocabSize);
      (await this.#run(model, store, step, logits)).dispose();
      const start = performance.now();
      const largest = await model.picks.of(logits);
      this.runMs += performance.now() - start;
      return largest;
    });
  }

  /** Uploads the adapter, in turns with running steps, and opens the graphs that it needs. */
  async load(adapter: BoundAdapter): Promise<void> {
    for (;;) {
      const model = await this.#live.ready();
      try {
        await model.graph(needsFullGraph(adapter) ? 'full' : 'lora');
        return await model.residency.load(adapter);
      } catch (error) {
        const failure = await this.#live.failed(error, model);
        // Where somebody else's step failed the adapter, which had no part in it, is sent to the new device.
        if (!(failure instanceof StoreLost)) throw failure;
      }
    }
  }

  unload(digest: string): void {
    this.model.unload(digest);
  }

  async close(): Promise<void> {
    await this.#live.close();
  }

  /** The logits of a step, [logitRows, vocab]. */
  #logits(store: DeviceStore, step: Step): Promise<Float32Array> {
    return this.#on(store, step, async (model) => (await this.#run(model, store, step, null)).data as Float32Array);
  }

  /** Runs a step on the model of the store's device. */
  async #on<T>(store: DeviceStore, step: Step, run: (model: GpuModel) => Promise<T>): Promise<T> {
    const model = await this.#live.ready();
    if (store.device !== model.device) throw new StoreLost('the device failed meanwhile');
    store.prepare(step);
    let letGo: (() => void) | undefined;
    try {
      await model.queue.drained();
      letGo = model.device.hold();
      return await run(model);
    } catch (error) {
      // Closing a lost device waits for all that hold it.
      letGo?.();
      letGo = undefined;
      throw await this.#live.failed(error, model);
    } finally {
      model.residency.done();
      letGo?.();
    }
  }

  /**
   * @param target where the logits stay on the device; null = they are handed out
   * @returns logits [logitRows, vocab]; where they stay, a name for `target` to dispose of
   */
  async #run(model: GpuModel, store: DeviceStore, step: Step, target: GpuTensor | null): Promise<ort.Tensor> {
    const { spec } = this;
    const { ids, positions, adapters } = step;
    const open = await model.graph(variantFor(adapters));
    const { graph, session } = open;
    const bindings = store.bindings(step, graph);
    const feeds: Record<string, ort.Tensor> = {
      ...model.weights,
      ...(await this.#adapterFeeds(model, open, adapters)),
      ...ropeFeeds(spec.ropes, positions, step.horizonOf),
      ...bindings.feeds,
      embeds: new ort.Tensor('float32', embedded(this.#table, step), [ids.length, spec.hiddenSize]),
      logit_rows: new ort.Tensor('int32', Int32Array.from(step.logitRows), [step.logitRows.length]),
    };
    const fetches: Record<string, ort.Tensor | null> = { ...bindings.fetches, [graph.logits]: target };
    const beyond = adapters.some(({ vocabulary }) => vocabulary !== undefined);
    if (beyond) fetches[graph.headInput] = null;
    const start = performance.now();
    const outputs = await session.run(feeds, fetches);
    this.runMs += performance.now() - start;
    const { [graph.logits]: logits, [graph.headInput]: headInput, ...caches } = outputs;
    // These are names for the stores' own buffers.
    for (const wrapper of Object.values(caches)) wrapper.dispose();
    this.headInputs = headInput === undefined ? undefined : toFloats(headInput.data as Float32Array | Uint16Array);
    return logits!;
  }

  async #adapterFeeds(
    model: GpuModel,
    { graph, feeds }: OpenGraph,
    rows: readonly RowAdapter[],
  ): Promise<Record<string, ort.Tensor>> {
    if (graph.variant === 'base') return {};
    const adapters = new Map<string, BoundAdapter>();
    for (const { parts } of rows) {
      for (const { adapter, idle } of parts) {
        if (adapter.linears.some(({ rank, always }) => rank > 0 && (!idle || always)))
          adapters.set(adapter.digest, adapter);
      }
    }
    return feeds.feeds(await model.sets.setFor([...adapters.values()]), rows);
  }
}
