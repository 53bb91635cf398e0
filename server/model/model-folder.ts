/**
 * A Hugging Face model folder, opened: what config.json describes, and the weight files; or one GGUF file. Both the main thread (adapter
 * binding, listings) and the engine worker (graph, weights) open it for themselves; it holds file handles, no weights.
 */
import { basename, join, resolve } from 'node:path';
import { AppError } from '../errors.js';
import { readRegular } from '../regular-file.js';
import { type Checkpoint, openCheckpoint } from './checkpoint.js';
import { describeDecoder } from './families/table.js';
import { isGgufModel, openGgufModel } from './gguf/gguf-model.js';
import type { TokenizerFiles } from './gguf/gguf-tokenizer.js';
import { allLinears, allNorms, type DecoderSpec } from './spec.js';
import { withStoredHead } from './tied-head.js';

/** What a model's files say, before tensors are compared with the description. */
export interface ModelSource {
  /** The folder, or the path of a GGUF file. */
  readonly dir: string;
  readonly spec: DecoderSpec;
  readonly checkpoint: Checkpoint;
  /** `_name_or_path` of config.json, or the folder's name: what adapters are likely to call their base. */
  readonly nameOrPath: string;
  /** End-of-sequence ids: generation_config.json first, else config.json. */
  readonly eosIds: readonly number[];
  /** The tokenizer that a GGUF file holds itself; absent where it lies in files of the folder. */
  readonly tokenizerFiles?: (() => TokenizerFiles) | undefined;
}

/** An opened model folder, or GGUF file. */
export interface ModelFolder extends ModelSource {
  /** Number of weights. */
  readonly parameters: number;
  close(): Promise<void>;
}

/**
 * Opens a folder or a `.gguf` file and checks that every tensor that the description asks for is there in the right
 * shape. Throws MODEL_INVALID.
 */
export async function openModelFolder(path: string): Promise<ModelFolder> {
  const place = resolve(path);
  const source = await (isGgufModel(place) ? openGgufModel(place) : openFolder(place));
  const { spec, checkpoint } = source;
  try {
    checkTensors(spec, checkpoint);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
  return { ...source, parameters: countParameters(spec), close: () => checkpoint.close() };
}

async function openFolder(dir: string): Promise<ModelSource> {
  const config = await readJson(join(dir, 'config.json'));
  if (config === undefined) throw new AppError('MODEL_INVALID', `${dir}: there is no config.json`);
  const described = describeDecoder(config, join(dir, 'config.json'));
  const generation = await readJson(join(dir, 'generation_config.json'));
  const name = config._name_or_path;
  const checkpoint = await openCheckpoint(dir);
  const spec = await withStoredHead(described, checkpoint).catch(async (error) => {
    await checkpoint.close();
    throw error;
  });
  return {
    dir,
    spec,
    checkpoint,
    nameOrPath: typeof name === 'string' && name !== '' ? name : basename(dir),
    eosIds: readIds(generation?.eos_token_id) ?? readIds(config.eos_token_id) ?? [],
  };
}

/** A JSON object, or undefined where the file is missing. Throws MODEL_INVALID for anything else. */
async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = (await readRegular(path)).toString();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new AppError('MODEL_INVALID', `${path}: cannot be read: ${(cause as Error).message}`, { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('MODEL_INVALID', `${path}: not JSON: ${(cause as Error).message}`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AppError('MODEL_INVALID', `${path}: holds no JSON object`);
  }
  return value as Record<string, unknown>;
}

function readIds(value: unknown): number[] | undefined {
  if (typeof value === 'number') return [value];
  if (Array.isArray(value) && value.every((id) => typeof id === 'number')) return value;
  return undefined;
}

function checkTensors(spec: DecoderSpec, checkpoint: Checkpoint): void {
  checkpoint.expect(spec.embedding.weight, [spec.vocabSize, spec.hiddenSize]);
  const { positions } = spec.embedding;
  if (positions !== undefined)
    checkpoint.expect(positions.weight, [(positions.first ?? 0) + spec.contextLength, spec.hiddenSize]);
  for (const linear of allLinears(spec)) {
    const { inFeatures, outFeatures } = linear;
    checkpoint.expect(linear.weight, linear.conv1d ? [inFeatures, outFeatures] : [outFeatures, inFeatures]);
    if (linear.bias !== undefined) checkpoint.expect(linear.bias, [outFeatures]);
  }
  for (const norm of allNorms(spec)) {
    checkpoint.expect(norm.weight, [norm.width]);
    if (norm.bias !== undefined) checkpoint.expect(norm.bias, [norm.width]);
  }
}

/** Of what is served; a file may hold more, as the part of a model that sees. */
function countParameters(spec: DecoderSpec): number {
  const { embedding, hiddenSize, vocabSize, contextLength, head } = spec;
  const { positions } = embedding;
  let count = vocabSize * hiddenSize;
  if (positions !== undefined) count += ((positions.first ?? 0) + contextLength) * hiddenSize;
  for (const linear of allLinears(spec)) {
    if (linear !== head.linear || !head.tied) count += linear.inFeatures * linear.outFeatures;
    if (linear.bias !== undefined) count += linear.outFeatures;
  }
  for (const { width, bias } of allNorms(spec)) count += bias === undefined ? width : 2 * width;
  return count;
}
