/** A model on the device: its weights, one session per graph variant, caches and adapters. Made anew when a device is lost. */

import type { GraphVariant } from '../../model/graph-sites.js';
import type { ModelFolder } from '../../model/model-folder.js';
import { allLinears, allNorms } from '../../model/spec.js';
import { buildGpuGraph, type GpuGraph } from '../../model/webgpu/gpu-graph.js';
import type { GpuPrecision } from '../../model/webgpu/gpu-precision.js';
import { groupWeights } from '../../model/webgpu/gpu-weights.js';
import { allGroups } from '../../model/webgpu/linear-groups.js';
import type * as ort from '../ort.js';
import type { StepMarks } from '../step-marks.js';
import { AdapterFeeds } from './adapter-feeds.js';
import { AdapterResidency } from './adapter-residency.js';
import { AdapterSets } from './adapter-sets.js';
import { type AttentionChoice, chooseAttention, type KvSetting } from './choose-attention.js';
import { GpuCaches } from './gpu-caches.js';
import { GpuDevice, type GpuProvider, type GpuSession } from './gpu-device.js';
import { GpuPicks } from './gpu-picks.js';
import { GpuQueue } from './gpu-queue.js';
import { PagePool } from './page-pool.js';

/** A graph that can be run. */
export interface OpenGraph {
  readonly graph: GpuGraph;
  readonly session: GpuSession;
  readonly feeds: AdapterFeeds;
}

/** How a model is kept on the device. */
export interface GpuModelOptions {
  readonly precision: GpuPrecision;
  /** Where keys and values lie, if device, floats and model allow it; absent = plain, row by row. */
  readonly kv?: KvSetting | undefined;
  /** Most bytes of adapters that are not in use. */
  readonly adapterBytes: number;
  /** What runs the graphs; absent = WebGPU. */
  readonly provider?: GpuProvider | undefined;
  /** Where runs and openings are marked; absent = nowhere. */
  readonly marks?: StepMarks | undefined;
  /** Pauses between attempts to open a device that failed, in milliseconds; absent = some seconds in all. */
  readonly reopenPausesMs?: readonly number[] | undefined;
  /** Options for the session of a graph; profiling wants some. */
  readonly session?: ((graph: GraphVariant | 'picks') => ort.InferenceSession.SessionOptions) | undefined;
}

/** What a model is made of once it is on the device. */
type Parts = Pick<
  GpuModel,
  'device' | 'queue' | 'caches' | 'pages' | 'residency' | 'sets' | 'attention' | 'picks' | 'weights'
>;

/** A model on a device: its sessions and weights. */
export class GpuModel {
  readonly device: GpuDevice;
  readonly queue: GpuQueue;
  readonly caches: GpuCaches;
  readonly residency: AdapterResidency;
  readonly sets: AdapterSets;
  readonly attention: AttentionChoice;
  readonly picks: GpuPicks;
  /** Where keys and values lie in pages; absent = each store has caches of its own. */
  readonly pages: PagePool | undefined;
  /** Every graph's weight inputs. */
  readonly weights: Readonly<Record<string, ort.Tensor>>;
  readonly #folder: ModelFolder;
  readonly #options: GpuModelOptions;
  readonly #small: ReadonlyMap<string, Float32Array>;
  readonly #graphs = new Map<GraphVariant, Promise<OpenGraph>>();

  private constructor(
    folder: ModelFolder,
    options: GpuModelOptions,
    small: ReadonlyMap<string, Float32Array>,
    parts: Parts,
  ) {
    this.#folder = folder;
    this.#options = options;
    this.#small = small;
    this.device = parts.device;
    this.queue = parts.queue;
    this.pages = parts.pages;
    this.caches = parts.caches;
    this.residency = parts.residency;
    this.sets = parts.sets;
    this.attention = parts.attention;
    this.picks = parts.picks;
    this.weights = parts.weights;
  }

  /**
   * Puts the weights on the device. What was made is freed again if that fails.
   * @param loaded digests of the adapters that are loaded, as {@link AdapterResidency} keeps them
   */
  static async open(folder: ModelFolder, options: GpuModelOptions, loaded?: Set<string>): Promise<GpuModel> {
    const { spec, checkpoint } = folder;
    const { precision, adapterBytes, provider, marks } = options;
    const device = new GpuDevice(provider, marks);
    try {
      const attention = await chooseAttention(device, spec, precision, options.kv);
      const small = await readSmall(folder);
      const weights: Record<string, ort.Tensor> = {};
      const groups = allGroups(spec);
      for (const group of groups) {
        for (const [name, { type, data, dims }] of await groupWeights(checkpoint, group, precision))
          weights[name] = await device.upload(type, data, dims);
      }
      const queue = new GpuQueue();
      const residency = new AdapterResidency(device, groups, precision, adapterBytes, loaded);
      const model = new GpuModel(folder, options, small, {
        device,
        weights,
        residency,
        attention,
        queue,
        pages: attention.form === 'paged' ? await PagePool.open(device, queue, spec) : undefined,
        caches: await GpuCaches.open(device, spec, precision),
        sets: await AdapterSets.open(device, residency, groups, precision),
        picks: await GpuPicks.open(device, spec.vocabSize, options.session?.('picks')),
      });
      // Whatever a device refuses of the model is known now.
      await model.graph('base');
      return model;
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  /** The session of a graph variant; opened when it is first asked for. */
  graph(variant: GraphVariant): Promise<OpenGraph> {
    let open = this.#graphs.get(variant);
    if (open === undefined) {
      open = this.#open(variant);
      this.#graphs.set(variant, open);
      // A failure is the caller's; the next call tries again.
      open.catch(() => this.#graphs.delete(variant));
    }
    return open;
  }

  /** Frees what the device holds of an adapter, when the steps under way have ended. */
  unload(digest: string): void {
    this.sets.forget(digest);
    this.residency.unload(digest);
    // A graph that is not open yet, or fails to open, holds nothing.
    for (const open of this.#graphs.values())
      void open.then(
        ({ feeds }) => feeds.forget(digest),
        () => {},
      );
  }

  /** Frees everything. */
  async close(): Promise<void> {
    await this.queue.drained();
    await this.device.close();
  }

  async #open(variant: GraphVariant): Promise<OpenGraph> {
    const { precision } = this.#options;
    const graph = buildGpuGraph(this.#folder.spec, variant, precision, this.#small, this.attention.form);
    const session = await this.device.session(graph.bytes, false, this.#options.session?.(variant));
    return { graph, session, feeds: new AdapterFeeds(this.device, graph, precision, this.#small) };
  }
}

/** Biases and norm weights by tensor name. */
async function readSmall({ spec, checkpoint }: ModelFolder): Promise<Map<string, Float32Array>> {
  const small = new Map<string, Float32Array>();
  const names = [
    ...allNorms(spec).flatMap(({ weight, bias }) => [weight, bias]),
    ...allLinears(spec).map(({ bias }) => bias),
  ];
  for (const name of names) {
    if (name !== undefined && !small.has(name)) small.set(name, await checkpoint.readFloat32(name));
  }
  return small;
}
