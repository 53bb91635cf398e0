/**
 * The description of a model in a GGUF file, in the words of config.json: so the families know one vocabulary, and a key
 * that changes the forward pass and is not implemented is refused by name, as there.
 */
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';
import type { GgufValue } from '../../adapters/gguf/gguf-header.js';
import { ARCHITECTURES, BASE_ARCHITECTURES, type GgufArchitecture } from '../../adapters/gguf/tensor-names.js';

/** Keys after `<architecture>.` that config.json has under another name. */
const FIELDS: Readonly<Record<string, string>> = {
  context_length: 'max_position_embeddings',
  embedding_length: 'hidden_size',
  block_count: 'num_hidden_layers',
  feed_forward_length: 'intermediate_size',
  'attention.head_count': 'num_attention_heads',
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.layer_norm_rms_epsilon': 'rms_norm_eps',
  'rope.freq_base': 'rope_theta',
};

/** Keys that are read here, or say nothing about the forward pass. */
const HANDLED = new Set([
  'vocab_size',
  'tensor_data_layout',
  'attention.key_length',
  'attention.value_length',
  'rope.dimension_count',
  'rope.scale_linear',
  'rope.scaling.type',
  'rope.scaling.factor',
  'rope.scaling.attn_factor',
  'rope.scaling.original_context_length',
  'rope.scaling.finetuned',
  'rope.scaling.yarn_beta_fast',
  'rope.scaling.yarn_beta_slow',
]);

/** The architecture of a model file. Throws MODEL_INVALID for what is no model, is split, or is of another architecture. */
export function baseArchitecture(file: GgufFile): GgufArchitecture {
  const kind = file.metadata.get('general.type') ?? 'model';
  if (kind !== 'model') throw file.fail(`general.type is ${JSON.stringify(kind)}; "model" would be right`);
  const parts = file.metadata.get('split.count') ?? 0;
  if (typeof parts !== 'number' || parts > 1) {
    throw file.fail(`it is one of ${JSON.stringify(parts)} parts; merge them into one file first`);
  }
  const name = file.metadata.get('general.architecture');
  const found = typeof name === 'string' && BASE_ARCHITECTURES.includes(name) ? ARCHITECTURES.get(name) : undefined;
  if (found === undefined) {
    throw file.fail(
      `architecture ${JSON.stringify(name ?? null)} is not supported; supported: ${BASE_ARCHITECTURES.join(', ')}`,
    );
  }
  return found;
}

/** What config.json would say. Throws MODEL_INVALID for settings that have no such form. */
export function configOf(file: GgufFile, architecture: GgufArchitecture): Record<string, unknown> {
  const prefix = `${architecture.name}.`;
  const own = new Map<string, GgufValue>();
  for (const [key, value] of file.metadata) if (key.startsWith(prefix)) own.set(key.slice(prefix.length), value);
  const config: Record<string, unknown> = { model_type: architecture.modelTypes[0] };
  for (const [key, value] of own) {
    const field = FIELDS[key];
    if (field !== undefined) config[field] = value;
    // Zero is how llama.cpp writes that something is not there (no experts, no window).
    else if (!HANDLED.has(key) && value !== 0) config[prefix + key] = value;
  }
  const has = (tensor: string) => file.tensors.has(tensor);
  config.vocab_size = file.tensors.get('token_embd.weight')?.shape[0];
  config.tie_word_embeddings = !has('output.weight');
  config.head_dim = headDim(file, own, config);
  checkSizes(file, config);
  config.rope_scaling = ropeScaling(file, own);
  if (architecture.name === 'llama') {
    config.attention_bias = has('blk.0.attn_q.bias');
    config.mlp_bias = has('blk.0.ffn_up.bias');
  }
  return config;
}

/** Numbers that decide how much is made of the description must agree with the tensors, which the file has to hold. */
function checkSizes(file: GgufFile, config: Record<string, unknown>): void {
  const layers = Number(config.num_hidden_layers);
  if (layers > file.tensors.size) throw file.fail(`${layers} layers, but only ${file.tensors.size} tensors`);
  const rows = file.tensors.get('blk.0.attn_q.weight')?.shape[0];
  const wanted = Number(config.num_attention_heads) * Number(config.head_dim);
  if (rows !== wanted) throw file.fail(`blk.0.attn_q.weight has ${rows} rows, the heads make it ${wanted}`);
}

function headDim(file: GgufFile, own: ReadonlyMap<string, GgufValue>, config: Record<string, unknown>): unknown {
  const whole = Number(config.hidden_size) / Number(config.num_attention_heads);
  const keys = own.get('attention.key_length') ?? (Number.isInteger(whole) ? whole : undefined);
  for (const key of ['attention.value_length', 'rope.dimension_count']) {
    const value = own.get(key) ?? keys;
    if (value !== keys)
      throw file.fail(`${key} is ${value} where heads have ${keys} dimensions; this is not supported`);
  }
  return keys;
}

/** `rope_scaling` as config.json has it, or undefined. The bands of Llama 3 come as a tensor instead. */
function ropeScaling(file: GgufFile, own: ReadonlyMap<string, GgufValue>): Record<string, unknown> | undefined {
  const factor = own.get('rope.scaling.factor') ?? own.get('rope.scale_linear') ?? 1;
  const type = own.get('rope.scaling.type') ?? 'linear';
  if (type === 'none' || (type === 'linear' && (factor === 0 || factor === 1))) return undefined;
  if (type === 'linear') return { rope_type: 'linear', factor };
  if (type !== 'yarn')
    throw file.fail(`rope.scaling.type ${JSON.stringify(type)} is not supported; linear and yarn are`);
  const attention = own.get('rope.scaling.attn_factor') ?? 1;
  if (attention !== 1) throw file.fail(`rope.scaling.attn_factor ${JSON.stringify(attention)} is not supported`);
  return {
    rope_type: 'yarn',
    factor,
    original_max_position_embeddings: own.get('rope.scaling.original_context_length'),
    beta_fast: own.get('rope.scaling.yarn_beta_fast'),
    beta_slow: own.get('rope.scaling.yarn_beta_slow'),
  };
}
