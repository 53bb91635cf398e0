/** The rotary settings of a GGUF file, in the words of config.json. */

import type { GgufArchitecture } from '../../adapters/gguf/architectures.js';
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';
import type { DecoderSpec } from '../spec.js';
import type { GgufMetadata } from './gguf-metadata.js';

/** LongRoPE's factors, which a file has as tensors. */
export interface LongRopeFactors {
  readonly short: readonly number[];
  readonly long: readonly number[];
}

const SHORT = 'rope_factors_short.weight';
const LONG = 'rope_factors_long.weight';

/** Architectures with one plain rotary table, which a file may stretch pair by pair as Llama 3 does. */
const STRETCHED = ['llama', 'arcee', 'granite', 'smollm3', 'exaone4'];

/** The factors of a file that has any. Throws MODEL_INVALID for an architecture that they are not known of. */
export async function readLongRope(file: GgufFile, { name }: GgufArchitecture): Promise<LongRopeFactors | undefined> {
  if (!file.tensors.has(SHORT) && !file.tensors.has(LONG)) return undefined;
  if (name !== 'phi3') throw file.fail(`${SHORT} and ${LONG} in a ${name} model are not supported`);
  const [short, long] = await Promise.all([file.readFloat32(SHORT), file.readFloat32(LONG)]);
  return { short: [...short], long: [...long] };
}

/** `rope_scaling` as config.json has it, or undefined. */
export function ropeScaling(own: GgufMetadata, longRope?: LongRopeFactors): Record<string, unknown> | undefined {
  const factor = own.number('rope.scaling.factor') ?? own.number('rope.scale_linear') ?? 1;
  const given = own.raw('rope.scaling.type');
  const type = given ?? 'linear';
  own.raw('rope.scaling.finetuned');
  const original = own.raw('rope.scaling.original_context_length');
  const attention = own.number('rope.scaling.attn_factor') ?? 1;
  if (longRope !== undefined) {
    if (given !== undefined && given !== 'longrope') throw own.fault('rope.scaling.type', 'longrope', given);
    return {
      rope_type: 'longrope',
      short_factor: longRope.short,
      long_factor: longRope.long,
      original_max_position_embeddings: original,
      attention_factor: attention,
    };
  }
  // Without the rule that it belongs to, llama.cpp would still multiply by it.
  if (attention !== 1) throw own.file.fail(`rope.scaling.attn_factor ${attention} is not supported`);
  if (type === 'none' || (type === 'linear' && (factor === 0 || factor === 1))) return undefined;
  if (type === 'linear') return { rope_type: 'linear', factor };
  if (type !== 'yarn')
    throw own.file.fail(`rope.scaling.type ${JSON.stringify(type)} is not supported; linear and yarn are`);
  own.expect('rope.scaling.yarn_ext_factor', 1);
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: original,
    // What the converter finds in config.json.
    attention_factor: own.number('rope.scaling.yarn_attn_factor'),
    beta_fast: own.number('rope.scaling.yarn_beta_fast'),
    beta_slow: own.number('rope.scaling.yarn_beta_slow'),
  };
}

/** Llama 3's scaling of the rotary frequencies comes as a divisor for each pair of dimensions. */
export async function withRopeFactors(
  spec: DecoderSpec,
  file: GgufFile,
  { name }: GgufArchitecture,
): Promise<DecoderSpec> {
  const tensor = file.tensors.get('rope_freqs.weight');
  if (tensor === undefined) return spec;
  const [rope] = spec.ropes;
  if (!STRETCHED.includes(name) || rope === undefined)
    throw file.fail(`rope_freqs.weight in a ${name} model is not supported`);
  const factors = await file.readFloat32(tensor.name);
  if (factors.length !== rope.inverseFrequency.length || factors.some((factor) => !(factor > 0 && factor < Infinity))) {
    throw file.fail(`rope_freqs.weight must hold ${rope.inverseFrequency.length} positive numbers`);
  }
  const inverseFrequency = rope.inverseFrequency.map((frequency, i) => frequency / factors[i]!);
  return { ...spec, ropes: [{ ...rope, inverseFrequency }] };
}
