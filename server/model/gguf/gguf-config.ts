/**
 * The description of a model in a GGUF file, in the words of config.json: so the families know one vocabulary, and a key
 * that changes the forward pass and is not implemented is refused by name, as there.
 */
import { ARCHITECTURES, type GgufArchitecture } from '../../adapters/gguf/architectures.js';
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';
import { type ArchitectureReading, type GgufSizes, READINGS } from './architecture-fields.js';
import { GgufMetadata } from './gguf-metadata.js';
import { type LongRopeFactors, ropeScaling } from './gguf-rope.js';

/** Sizes: keys, and the fields that config.json has them in. */
const FIELDS: Readonly<Record<string, string>> = {
  context_length: 'max_position_embeddings',
  embedding_length: 'hidden_size',
  block_count: 'num_hidden_layers',
  feed_forward_length: 'intermediate_size',
  'attention.head_count': 'num_attention_heads',
  'attention.head_count_kv': 'num_key_value_heads',
};

/** The same by GPT-2's names. How many heads of keys there are is the family's. */
const GPT_FIELDS: Readonly<Record<string, string>> = {
  context_length: 'n_positions',
  embedding_length: 'n_embd',
  block_count: 'n_layer',
  feed_forward_length: 'n_inner',
  'attention.head_count': 'n_head',
};

/** Architectures of which a file does not tell what its answers depend on, and why. */
const UNTOLD: Readonly<Record<string, string>> = {
  gptneox: 'such files do not say which form of GELU the model has; use the Hugging Face folder',
};

/** The architecture of a model file. Throws MODEL_INVALID for what is no model, is split, or is of another architecture. */
export function baseArchitecture(file: GgufFile): GgufArchitecture {
  const kind = file.metadata.get('general.type') ?? 'model';
  if (kind !== 'model') throw file.fail(`general.type is ${JSON.stringify(kind)}; "model" would be right`);
  const parts = file.metadata.get('split.count') ?? 0;
  if (typeof parts !== 'number' || parts > 1) {
    throw file.fail(`it is one of ${JSON.stringify(parts)} parts; merge them into one file first`);
  }
  const name = file.metadata.get('general.architecture');
  const found = typeof name === 'string' ? ARCHITECTURES.get(name) : undefined;
  if (found === undefined) {
    const why = typeof name === 'string' && Object.hasOwn(UNTOLD, name) ? `: ${UNTOLD[name]}` : '';
    throw file.fail(
      `architecture ${JSON.stringify(name ?? null)} is not supported${why}; supported: ${[...ARCHITECTURES.keys()].join(', ')}`,
    );
  }
  return found;
}

/** What config.json would say. Throws MODEL_INVALID for settings that have no such form. */
export function configOf(
  file: GgufFile,
  architecture: GgufArchitecture,
  longRope?: LongRopeFactors,
): Record<string, unknown> {
  const own = new GgufMetadata(file, architecture);
  const reading = READINGS[architecture.name]!;
  const config: Record<string, unknown> = { model_type: architecture.modelTypes[0] };
  const names = reading.gpt ? GPT_FIELDS : FIELDS;
  for (const [key, field] of Object.entries(names)) {
    const value = own.raw(key);
    if (value !== undefined) config[field] = value;
  }
  const sizes = readSizes(own, config, names);
  checkSizes(file, sizes);
  config.vocab_size = file.tensors.get('token_embd.weight')?.shape[0];
  config.tie_word_embeddings = !own.has('output.weight');
  config[reading.epsilon] = own.needed(`attention.layer_norm_${reading.norm === 'layer' ? '' : 'rms_'}epsilon`);
  if (!reading.gpt) Object.assign(config, rotaryFields(own, reading, sizes, longRope), { head_dim: sizes.headDim });
  Object.assign(config, reading.own?.(own, sizes));
  return { ...config, ...Object.fromEntries(own.left()) };
}

/** Sizes that other fields follow from; whether they make sense is the family's to say. */
function readSizes(
  own: GgufMetadata,
  config: Readonly<Record<string, unknown>>,
  names: Readonly<Record<string, string>>,
): GgufSizes {
  const size = (key: string) => Number(config[names[key]!]);
  const heads = size('attention.head_count');
  return {
    layers: size('block_count'),
    hidden: size('embedding_length'),
    heads,
    kvHeads: Number(own.raw('attention.head_count_kv') ?? heads),
    headDim: Number(headDim(own, size('embedding_length') / heads)),
    context: own.needed('context_length'),
  };
}

/** Numbers that decide how much is made of the description must agree with the tensors, which the file has to hold. */
function checkSizes(file: GgufFile, { layers, heads, kvHeads, headDim }: GgufSizes): void {
  if (layers > file.tensors.size) throw file.fail(`${layers} layers, but only ${file.tensors.size} tensors`);
  const queries = file.tensors.get('blk.0.attn_q.weight');
  const name = queries === undefined ? 'blk.0.attn_qkv.weight' : 'blk.0.attn_q.weight';
  const rows = (queries ?? file.tensors.get(name))?.shape[0];
  const wanted = (queries === undefined ? heads + 2 * kvHeads : heads) * headDim;
  if (rows !== wanted) throw file.fail(`${name} has ${rows} rows, the heads make it ${wanted}`);
}

function headDim(own: GgufMetadata, whole: number): unknown {
  const keys = own.raw('attention.key_length') ?? (Number.isInteger(whole) ? whole : undefined);
  const values = own.raw('attention.value_length') ?? keys;
  if (values !== keys)
    throw own.file.fail(
      `attention.value_length is ${values} where heads have ${keys} dimensions; this is not supported`,
    );
  return keys;
}

/** Base, part and scaling of the rotation. */
function rotaryFields(
  own: GgufMetadata,
  { partial }: ArchitectureReading,
  { headDim }: GgufSizes,
  longRope: LongRopeFactors | undefined,
): Record<string, unknown> {
  const rotated = own.number('rope.dimension_count') ?? headDim;
  if (partial !== true && rotated !== headDim) {
    throw own.file.fail(
      `rope.dimension_count is ${rotated} where heads have ${headDim} dimensions; this is not supported`,
    );
  }
  return {
    // What llama.cpp takes where the file names none; families have defaults of their own.
    rope_theta: own.raw('rope.freq_base') ?? 10_000,
    rope_scaling: ropeScaling(own, longRope),
    ...(partial === true && { partial_rotary_factor: share(rotated, headDim) }),
  };
}

/** A share that gives back the part, as families round their product down. */
function share(part: number, whole: number): number {
  const quotient = part / whole;
  return Math.floor(whole * quotient) < part ? quotient * (1 + Number.EPSILON) : quotient;
}
