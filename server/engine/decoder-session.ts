/**
 * onnxruntime sessions of one model: the graph variants share the description and the weight files. A session's `run`
 * blocks its thread, so all of this lives in the engine worker.
 */
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
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

  private constructor(
    folder: ModelFolder,
    threads: number,
    small: ReadonlyMap<string, Float32Array>,
    kernel: LinearKernel,
    store: QuantisedStore | undefined,
  ) {
    this.#folder = folder;
    this.#threads = threads;
    this.#small = small;
    this.#kernel = kernel;
    this.#store = store;
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
    if (dtype === 'fp32') return new SessionFactory(folder, threads, small, fp32Kernel(folder.checkpoint), undefined);
    const store = await quantise(
      allLinears(folder.spec).map((linear) => ({
        tensor: linear.weight,
        outFeatures: linear.outFeatures,
        inFeatures: linear.inFeatures,
        transposed: linear.conv1d ?? false,
        read: () => folder.checkpoint.readFloat32(linear.weight),
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
    const { changed, files } = this.#folder.checkpoint;
    if (changed === undefined) return [];
    const merged = [...changed].map(([name, { buffer, byteOffset, byteLength }]) => ({
      path: memoryFile(name),
      data: new Uint8Array(buffer, byteOffset, byteLength),
    }));
    const whole = await Promise.all(
      files.map(async ({ path }) => ({ path: basename(path), data: await readFile(path) })),
    );
    return [...merged, ...whole];
  }
}
