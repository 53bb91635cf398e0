/**
 * onnxruntime sessions of one model: the graph variants share the description and the weight files. A session's `run`
 * blocks its thread, so all of this lives in the engine worker.
 */
import { stat } from 'node:fs/promises';
import type { DecoderGraph } from '../model/decoder-graph.js';
import { buildDecoderGraph } from '../model/decoder-graph.js';
import type { GraphVariant } from '../model/graph-sites.js';
import type { ModelFolder } from '../model/model-folder.js';
import { allLinears, allNorms } from '../model/spec.js';
import type { KeptFile, KeptWeights, OnUnkept } from './converted-weights.js';
import { type Dtype, type LinearWeights, prepareLinears, sharedLinears } from './linear-weights.js';
import * as ort from './ort.js';

export type { Dtype } from './linear-weights.js';

/** A session with weights of its own is opened in the hope of speed only where they are no larger. [bytes of float32] */
const SMALL_WEIGHTS = 64 * 2 ** 20;

/** A graph and the session that runs it. */
export interface DecoderSession {
  readonly graph: DecoderGraph;
  run(feeds: Record<string, ort.Tensor>, fetches: readonly string[]): Promise<Record<string, ort.Tensor>>;
}

/** Makes sessions of a model on demand, one per graph variant. */
export class SessionFactory {
  readonly #folder: ModelFolder;
  readonly #small: ReadonlyMap<string, Float32Array>;
  readonly #linears: LinearWeights;
  /** What the weight files were when they were read first. */
  readonly #files: string;

  private constructor(
    folder: ModelFolder,
    small: ReadonlyMap<string, Float32Array>,
    linears: LinearWeights,
    files: string,
  ) {
    this.#files = files;
    this.#folder = folder;
    this.#small = small;
    this.#linears = linears;
  }

  /**
   * Reads biases and norms; with `int8` also quantises every linear.
   * @param known and `onUnkept`: see {@link prepareLinears}
   */
  static async create(
    folder: ModelFolder,
    dtype: Dtype,
    cacheDir?: string,
    known?: KeptFile,
    onUnkept?: OnUnkept,
  ): Promise<SessionFactory> {
    const files = await filesOf(folder);
    const small = new Map<string, Float32Array>();
    for (const norm of allNorms(folder.spec)) {
      for (const name of [norm.weight, norm.bias]) {
        if (name !== undefined) small.set(name, await folder.checkpoint.readFloat32(name));
      }
    }
    for (const { bias } of allLinears(folder.spec)) {
      if (bias !== undefined) small.set(bias, await folder.checkpoint.readFloat32(bias));
    }
    return new SessionFactory(folder, small, await prepareLinears(folder, dtype, cacheDir, known, onUnkept), files);
  }

  /** The file that its sessions map the weights from, and whether it has their packed form; absent = none was kept. */
  get kept(): KeptWeights | undefined {
    const { kept, shared = false } = this.#linears;
    return kept && { file: kept, shared };
  }

  /** True where one more session takes little memory: the weights are shared, or there are few. */
  get opensCheaply(): boolean {
    const weights = allLinears(this.#folder.spec).reduce(
      (sum, { inFeatures, outFeatures }) => sum + inFeatures * outFeatures,
      0,
    );
    return this.#linears.shared === true || weights * Float32Array.BYTES_PER_ELEMENT <= SMALL_WEIGHTS;
  }

  /** A factory of sessions that share packed weights, if the cache has them by now; else this one. */
  async sharing(cacheDir: string | undefined): Promise<SessionFactory> {
    if (this.#linears.shared || this.#linears.kept === undefined || cacheDir === undefined) return this;
    const linears = await sharedLinears(this.#folder, cacheDir);
    return linears === undefined ? this : new SessionFactory(this.#folder, this.#small, linears, this.#files);
  }

  /**
   * Builds a variant's graph and loads it. Blocks the thread while onnxruntime prepares the weights.
   * Throws where the weight files are not those of the start any more: graphs of one model must not mix weights.
   * @param threads arithmetic threads of the session, >= 1
   */
  async open(variant: GraphVariant, threads: number): Promise<DecoderSession> {
    // A kept conversion has its contents in its name; files of the model are opened by path each time.
    if (this.#linears.kept === undefined && (await filesOf(this.#folder)) !== this.#files) {
      throw new Error(`the weight files of ${this.#folder.dir} have changed since the model was opened; load it again`);
    }
    const graph = buildDecoderGraph(this.#folder.spec, this.#linears.kernel, variant, this.#small);
    const externalData = await this.#linears.externalFiles();
    const session = await ort.InferenceSession.create(graph.bytes, {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      logSeverityLevel: 3,
      ...(externalData.length > 0 && { externalData: [...externalData] }),
      extra: {
        session: {
          model_external_initializers_file_folder_path: this.#linears.kept?.folder ?? this.#folder.checkpoint.folder,
          // The pairs of quantise and dequantise are wanted as they stand.
          disable_quant_qdq: '1',
          // A masked score's weight is a denormal number, which costs a softmax most of its time. The first session of a
          // process decides for its own thread, so every session says so.
          set_denormal_as_zero: '1',
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
}

/** Identity of the folder's weight files as far as the file system tells it. */
async function filesOf({ checkpoint }: ModelFolder): Promise<string> {
  const states = await Promise.all(
    checkpoint.files.map(async ({ path }) => {
      const { dev, ino, size, mtimeMs } = await stat(path);
      return [path, dev, ino, size, mtimeMs].join(':');
    }),
  );
  return states.join('|');
}
