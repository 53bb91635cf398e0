/** A base model in one GGUF file: description, weights, tokenizer. */
import { basename } from 'node:path';
import { type GgufFile, openGguf } from '../../adapters/gguf/gguf-file.js';
import { describeDecoder } from '../families/table.js';
import type { ModelSource } from '../model-folder.js';
import { allLinears, allNorms, type DecoderSpec } from '../spec.js';
import { ggufCheckpoint } from './gguf-checkpoint.js';
import { baseArchitecture, configOf } from './gguf-config.js';
import { readLongRope, withRopeFactors } from './gguf-rope.js';
import { endOfGeneration, tokenizerFilesOf } from './gguf-tokenizer.js';

/** True for a path that names a GGUF file. */
export function isGgufModel(path: string): boolean {
  return /\.gguf$/i.test(path);
}

/** Opens a model file. Throws MODEL_INVALID that names what is missing, broken or not supported. */
export async function openGgufModel(path: string): Promise<ModelSource> {
  const file = await openGguf(path);
  try {
    const architecture = baseArchitecture(file);
    const longRope = await readLongRope(file, architecture);
    const described = describeDecoder(configOf(file, architecture, longRope), file.label);
    const checkpoint = ggufCheckpoint(file, architecture, described);
    checkNothingLeft(file, described, checkpoint.names);
    return {
      dir: path,
      spec: await withRopeFactors(described, file, architecture),
      checkpoint,
      nameOrPath: nameOf(file),
      eosIds: endOfGeneration(file),
      tokenizerFiles: () => tokenizerFilesOf(file),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** A tensor that the description has no use for would be missing from every answer. */
function checkNothingLeft(file: GgufFile, spec: DecoderSpec, names: Iterable<string>): void {
  const used = new Set([spec.embedding.weight, spec.finalNorm.weight]);
  if (spec.embedding.positions !== undefined) used.add(spec.embedding.positions.weight);
  for (const { weight, bias } of [...allLinears(spec), ...allNorms(spec)]) used.add(weight).add(bias ?? weight);
  const left = [...names].filter((name) => !used.has(name));
  if (left.length > 0) {
    throw file.fail(`tensors that a ${spec.modelType} model has no use for: ${left.slice(0, 20).join(', ')}`);
  }
}

/** Converters write "Org Name 1B" for a repository Name-1B; without a name the file's own has to do. */
function nameOf({ metadata, path }: GgufFile): string {
  const name = metadata.get('general.name');
  return typeof name === 'string' && name !== '' ? name.replaceAll(' ', '-') : basename(path, '.gguf');
}
