/**
 * onnxruntime sessions of one model: the graph variants share the description and the weight files. A session's `run`
 * blocks its thread, so all of this lives in the engine worker.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import type { DecoderGraph } from '../model/decoder-graph.js';
import { buildDecoderGraph } from '../model/decoder-graph.js';
import { fp32Kernel, int8Kernel, type LinearKernel, memoryFile } from '../model/graph-linears.js';
import type { GraphVariant } from '../model/graph-sites.js';
import type { ModelFolder } from '../model/model-folder.js';
import { type QuantisedStore, quantise } from '../model/quantise.js';
import { allLinears, allNorms } from '../model/spec.js';

/** Arithmetic of the base model's linears: `fp32` is exact, `int8` quantises weights and activations by blocks. */
export type Dtype = 'fp32' | 'int8';

/** A graph and the session that runs it. */
export interface DecoderSession {
  readonly graph: DecoderGraph;
  run(feeds: Record<string, ort.Tensor>, fetches: readonly string[]): Promise<Record<string, ort.Tensor>>;
}

/** Makes sessions of a model on demand, one per graph variant. */
export class SessionFactory {
  readonly #folder: ModelFolder;
  readonly #threads: number;
  readonly #small: ReadonlyMap<string, Float32Array>;
  readonly #kernel: LinearKernel;
  readonly #store: QuantisedStore | undefined;
  /** Weights that no file holds in a form that can be mapped: merged or dequantised ones, by tensor name. */
  readonly #held: ReadonlyMap<string, Float32Array>;

  private constructor(
    folder: ModelFolder,
    threads: number,
    small: ReadonlyMap<string, Float32Array>,
    kernel: LinearKernel,
    store: QuantisedStore | undefined,
    held: ReadonlyMap<string, Float32Array> = new Map(),
  ) {
    this.#folder = folder;
    this.#threads = threads;
    this.#small = small;
    this.#kernel = kernel;
    this.#store = store;
    this.#held = held;
  }

  /** Reads biases and norms; with `int8` also quantises every linear. */
  static async create(folder: ModelFolder, dtype: Dtype, threads: number): Promise<SessionFactory> {
    const small = new Map<string, Float32Array>();
    for (const norm of allNorms(folder.spec)) {
      for (const name of [norm.weight, norm.bias]) {
        if (name !== undefined) small.set(name, await folder.checkpoint.readFloat32(name));
      }
    }
    for (const { bias } of allLinears(folder.spec)) {
      if (bias !== undefined) small.set(bias, await folder.checkpoint.readFloat32(bias));
    }
    if (dtype === 'fp32') {
      const kernel = fp32Kernel(folder.checkpoint);
      return new SessionFactory(folder, threads, small, kernel, undefined, await readHeld(folder));
    }
    const store = await quantise(
      allLinears(folder.spec).map((linear) => ({
        tensor: linear.weight,
        outFeatures: linear.outFeatures,
        inFeatures: linear.inFeatures,
        transposed: linear.conv1d ?? false,
        read: () => folder.checkpoint.readFloat32(linear.weight),
        readBlocks: async () => folder.checkpoint.readBlocks?.(linear.weight),
      })),
    );
    return new SessionFactory(folder, threads, small, int8Kernel(store), store);
  }

  /** Builds a variant's graph and loads it. Blocks the thread while onnxruntime prepares the weights. */
  async open(variant: GraphVariant): Promise<DecoderSession> {
    const graph = buildDecoderGraph(this.#folder.spec, this.#kernel, variant, this.#small);
    const externalData = await this.#externalData();
    const session = await ort.InferenceSession.create(graph.bytes, {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      intraOpNumThreads: this.#threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      logSeverityLevel: 3,
      ...(externalData.length > 0 && { externalData }),
      extra: {
        session: {
          model_external_initializers_file_folder_path: this.#folder.checkpoint.folder,
          // Several variants have a thread pool each; one that is not running must not burn the others' cores.
          intra_op: { allow_spinning: '1', spin_duration_us: '200' },
        },
      },
    });
    return {
      graph,
      run: (feeds, fetches) => session.run(feeds, fetches as string[]) as Promise<Record<string, ort.Tensor>>,
    };
  }

  /** What the session takes from memory. As soon as anything does, onnxruntime wants every file named there. */
  async #externalData(): Promise<{ path: string; data: Uint8Array }[]> {
    if (this.#store !== undefined) return [{ path: this.#store.location, data: this.#store.bytes }];
    if (this.#held.size === 0) return [];
    const held = [...this.#held].map(([name, { buffer, byteOffset, byteLength }]) => ({
      path: memoryFile(name),
      data: new Uint8Array(buffer, byteOffset, byteLength),
    }));
    const { spec, checkpoint } = this.#folder;
    const locations = new Set(allLinears(spec).flatMap(({ weight }) => checkpoint.mapped(weight)?.location ?? []));
    const whole = await Promise.all(
      [...locations].map(async (path) => ({ path, data: await readFile(join(checkpoint.folder, path)) })),
    );
    return [...held, ...whole];
  }
}

/** Reads every linear's weight that cannot be mapped. */
async function readHeld({ spec, checkpoint }: ModelFolder): Promise<Map<string, Float32Array>> {
  const held = new Map<string, Float32Array>();
  for (const { weight } of allLinears(spec)) {
    if (held.has(weight) || checkpoint.mapped(weight) !== undefined) continue;
    held.set(weight, checkpoint.changed?.get(weight) ?? (await checkpoint.readFloat32(weight)));
  }
  return held;
}
