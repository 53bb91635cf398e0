/** From a model folder to a model that answers: description, tokenizer, template, engine worker. */
import { createHash } from 'node:crypto';
import { flattenReplaced } from '../adapters/flatten.js';
import { notSummable } from '../adapters/mixture.js';
import { readAdapterFolder } from '../adapters/read-adapter.js';
import type { AdapterBase } from '../adapters/types.js';
import { coresAtHand } from '../cgroup.js';
import type { OnUnkept } from '../engine/converted-weights.js';
import { takesRows } from '../engine/engine.js';
import type { DeviceDtype } from '../engine/open-device.js';
import { startEngines } from '../engine/start-engines.js';
import { threadsFor } from '../engine/threads.js';
import type { KvSetting } from '../engine/webgpu/choose-attention.js';
import type { DeviceChoice } from '../engine/webgpu/choose-device.js';
import type { FloatSetting } from '../engine/webgpu/choose-floats.js';
import { AppError } from '../errors.js';
import { fingerprintOf } from '../model/fingerprint.js';
import type { MergePart } from '../model/merge.js';
import { type ModelFolder, openModelFolder } from '../model/model-folder.js';
import { adapterBaseOf } from '../model/module-table.js';
import { type Texts, withTexts } from './adapter-text.js';
import { EncodeThread } from './encode-thread.js';
import { loadText } from './load-text.js';
import type { LoadedModel } from './ports.js';

/** How a model is to be served. */
export interface LoadModelOptions {
  readonly name: string;
  readonly path: string;
  readonly dtype: 'auto' | DeviceDtype;
  readonly loraEnabled: boolean;
  /** Where the model runs; absent = the processor. */
  readonly device?: DeviceChoice;
  /** Most bytes of adapters in a device's own memory, those in use not counted. */
  readonly deviceAdapterBytes?: number;
  /** Floats in a device's memory; absent = auto. */
  readonly deviceFloats?: FloatSetting;
  /** Where keys and values lie in a device's memory; absent = plain. */
  readonly deviceKv?: KvSetting;
  /** Arithmetic threads, >= 1; absent = by the model's size and the cores at hand. */
  readonly threads?: number | undefined;
  /** Engine threads side by side on the processor, >= 1; absent = 1. */
  readonly engines?: number | undefined;
  readonly maxBatch: number;
  readonly maxQueue: number;
  readonly prefillChunk: number;
  /** Most guessed tokens of a step; absent = none. */
  readonly lookupTokens?: number | undefined;
  /** Adapters to merge into the weights, by folder. */
  readonly merge: readonly { readonly name: string; readonly folder: string; readonly weight: number }[];
  /** Folder for converted weights; undefined = none are kept. */
  readonly cacheDir?: string | undefined;
  /** Budget of the keys and values of running rows, and of the prefix cache, in bytes. */
  readonly kvBytes: number;
  readonly prefixCacheBytes: number;
  /** How long a native call of a step may last before the engine counts as stalled; absent or 0 = for ever. */
  readonly stepTimeoutMs?: number | undefined;
}

/** What whoever loads a model may listen to. */
export interface LoadEvents {
  /** Told once where the folder for converted weights does not take them, maybe after the start. */
  readonly onUnkept?: OnUnkept | undefined;
  /** Told when the engine threads are on their way, which takes longer than all that this thread has to do. */
  readonly onEngines?: (() => void) | undefined;
}

/** Models below this many weights lose nothing noticeable in speed by exact arithmetic. */
const EXACT_BELOW = 40_000_000;

/**
 * Loads and starts a model. Throws MODEL_INVALID with what is wrong, or the signal's reason; nothing is left running then.
 */
export async function loadModel(
  options: LoadModelOptions,
  signal?: AbortSignal,
  events: LoadEvents = {},
): Promise<LoadedModel & { readonly base: AdapterBase }> {
  const folder = await openModelFolder(options.path);
  try {
    return await start(folder, options, signal, events);
  } catch (error) {
    await folder.close();
    throw error;
  }
}

async function start(
  folder: ModelFolder,
  options: LoadModelOptions,
  signal: AbortSignal | undefined,
  events: LoadEvents,
): Promise<LoadedModel> {
  const { spec, parameters } = folder;
  const dtype = options.dtype === 'auto' ? (parameters < EXACT_BELOW ? 'fp32' : 'int8') : options.dtype;
  const merge = await readMerge(options.merge, adapterBaseOf(folder, options.name));
  const failed = new AbortController();
  // The engine thread needs longest, so it goes first.
  const starting = startEngines(
    {
      modelDir: options.path,
      dtype,
      threads: options.threads ?? threadsFor(parameters, coresAtHand()),
      lora: options.loraEnabled,
      cacheDir: options.cacheDir,
      device: options.device,
      deviceAdapterBytes: options.deviceAdapterBytes,
      deviceFloats: options.deviceFloats,
      deviceKv: options.deviceKv,
      ...(merge.length > 0 && { merge: merge.map(({ adapter, weight }) => ({ adapter, weight })) }),
      limits: {
        maxBatch: options.maxBatch,
        prefillChunk: options.prefillChunk,
        lookupTokens: options.lookupTokens,
        kvBytes: options.kvBytes,
        // A step costs about four times what reading its weights' bytes as keys and values does (decisions/0022).
        stepBytes: 4 * parameters * (dtype === 'fp32' ? 4 : 1),
        prefixBytes: options.prefixCacheBytes,
      },
    },
    { maxQueue: options.maxQueue, stepTimeoutMs: options.stepTimeoutMs },
    options.device?.device === 'webgpu' ? 1 : (options.engines ?? 1),
    AbortSignal.any([failed.signal, ...(signal === undefined ? [] : [signal])]),
    events.onUnkept,
  );
  starting.catch(() => {}); // Told below.
  events.onEngines?.();
  let aside: EncodeThread;
  let texts: ReturnType<typeof mergedTexts>;
  let fingerprint: string;
  try {
    const [{ files, ...own }, print] = await Promise.all([loadText(folder), fingerprintOf(folder)]);
    aside = new EncodeThread(files);
    texts = mergedTexts({ ...own, encodeAside: aside.encode, eosIds: folder.eosIds }, merge);
    fingerprint = print;
  } catch (error) {
    failed.abort(error);
    await starting.then(
      (engine) => engine.close(),
      () => {},
    );
    throw error;
  }
  const engine = await starting;
  return {
    info: {
      name: options.name,
      path: folder.dir,
      modelType: spec.modelType,
      parameters,
      dtype,
      contextLength: spec.contextLength,
      vocabSize: merge.find(({ adapter }) => adapter.vocabulary)?.adapter.vocabulary?.size ?? spec.vocabSize,
      fingerprint: mergedFingerprint(fingerprint, merge),
      get ready() {
        return takesRows(engine);
      },
      loraEnabled: options.loraEnabled,
      get device() {
        return engine.device;
      },
    },
    engine,
    ...texts,
    base: adapterBaseOf(folder, options.name),
    async close() {
      await aside.close();
      await engine.close();
      await folder.close();
    },
  };
}

interface NamedPart extends MergePart {
  readonly name: string;
}

/** The merged model reads and writes what rows of its adapters would. Throws MODEL_INVALID where they contradict. */
function mergedTexts(model: Texts, parts: readonly NamedPart[]): Texts {
  const brought = parts
    .filter(({ adapter, weight }) => adapter.text !== undefined && weight !== 0)
    .map(({ name, adapter }) => ({ name, text: adapter.text }));
  try {
    return brought.length === 0 ? model : withTexts(model, brought, true);
  } catch (thrown) {
    throw new AppError('MODEL_INVALID', `cannot be merged: ${AppError.from(thrown).message}`, { cause: thrown });
  }
}

/** Reads the adapters to merge. Throws MODEL_INVALID that names the adapter and its faults. */
async function readMerge(sources: LoadModelOptions['merge'], base: AdapterBase): Promise<NamedPart[]> {
  const parts: NamedPart[] = [];
  for (const { name, folder, weight } of sources) {
    try {
      const read = await readAdapterFolder(folder, base);
      const adapter = await flattenReplaced(read, base);
      const alone = notSummable(read.features);
      if ((weight !== 1 || sources.length > 1) && alone.length > 0) {
        throw new AppError(
          'ADAPTER_UNSUPPORTED',
          `it uses ${alone.join(', ')}, so it can only be merged alone and with weight 1`,
        );
      }
      parts.push({ name, adapter, weight });
    } catch (thrown) {
      const { message } = AppError.from(thrown);
      throw new AppError('MODEL_INVALID', `adapter ${name} cannot be merged: ${message}`, { cause: thrown });
    }
  }
  return parts;
}

/** A merged model is another model: its fingerprint covers what was merged. */
function mergedFingerprint(fingerprint: string, parts: readonly MergePart[]): string {
  if (parts.length === 0) return fingerprint;
  const merged = parts.map(({ adapter, weight }) => `${adapter.digest}*${weight}`);
  return createHash('sha256')
    .update([fingerprint, ...merged].join('+'))
    .digest('hex');
}
