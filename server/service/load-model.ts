/** From a model folder to a model that answers: description, tokenizer, template, engine worker. */
import type { AdapterBase } from '../adapters/types.js';
import type { Dtype } from '../engine/decoder-session.js';
import { startEngine } from '../engine/worker-engine.js';
import { fingerprintOf } from '../model/fingerprint.js';
import { type ModelFolder, openModelFolder } from '../model/model-folder.js';
import { adapterBaseOf } from '../model/module-table.js';
import { loadTokenizer } from '../text/hf-tokenizer.js';
import { loadChatTemplate } from '../text/jinja-template.js';
import type { LoadedModel } from './ports.js';

/** How a model is to be served. */
export interface LoadModelOptions {
  readonly name: string;
  readonly path: string;
  readonly dtype: 'auto' | Dtype;
  readonly loraEnabled: boolean;
  /** Arithmetic threads, >= 1. */
  readonly threads: number;
  readonly maxBatch: number;
  readonly maxQueue: number;
  readonly prefillChunk: number;
  /** Budget of the key/value cache, in bytes. */
  readonly kvBytes: number;
}

/** Models below this many weights lose nothing noticeable in speed by exact arithmetic. */
const EXACT_BELOW = 40_000_000;

/** Loads and starts a model. Throws MODEL_INVALID with what is wrong; nothing is left running then. */
export async function loadModel(options: LoadModelOptions): Promise<LoadedModel & { readonly base: AdapterBase }> {
  const folder = await openModelFolder(options.path);
  try {
    return await start(folder, options);
  } catch (error) {
    await folder.close();
    throw error;
  }
}

async function start(folder: ModelFolder, options: LoadModelOptions): Promise<LoadedModel> {
  const { spec, parameters } = folder;
  const dtype = options.dtype === 'auto' ? (parameters < EXACT_BELOW ? 'fp32' : 'int8') : options.dtype;
  const [tokenizer, chatTemplate, fingerprint] = await Promise.all([
    loadTokenizer(options.path),
    loadChatTemplate(options.path),
    fingerprintOf(folder),
  ]);
  const positionBytes = spec.layers.length * 2 * spec.kvHeads * spec.headDim * 4;
  const engine = await startEngine(
    {
      modelDir: options.path,
      dtype,
      threads: options.threads,
      lora: options.loraEnabled,
      limits: {
        maxBatch: options.maxBatch,
        prefillChunk: options.prefillChunk,
        maxPositions: Math.floor(options.kvBytes / positionBytes),
      },
    },
    { maxQueue: options.maxQueue },
  );
  return {
    info: {
      name: options.name,
      path: folder.dir,
      modelType: spec.modelType,
      parameters,
      dtype,
      contextLength: spec.contextLength,
      vocabSize: spec.vocabSize,
      fingerprint,
      get ready() {
        return engine.alive;
      },
      loraEnabled: options.loraEnabled,
    },
    engine,
    tokenizer,
    chatTemplate,
    eosIds: folder.eosIds,
    base: adapterBaseOf(folder, options.name),
  };
}
