/**
 * What each architecture's metadata mean in the fields of its family's config.json. A file keeps less than config.json:
 * what follows from the tensors is taken from them, what llama.cpp's code takes for granted is given here as it has it,
 * and what would be a guess is refused.
 */
import type { GgufMetadata } from './gguf-metadata.js';
import { ropeScaling } from './gguf-rope.js';

/** Sizes that the generic part has read. */
export interface GgufSizes {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly context: number;
}

type Fields = Record<string, unknown>;

/** How an architecture is read. */
export interface ArchitectureReading {
  /** The name of the norms' epsilon, which is that of layer norms where `norm` says so. */
  readonly epsilon: string;
  readonly norm?: 'layer';
  /** True: `rope.dimension_count` may be a part of each head. */
  readonly partial?: boolean;
  /** True: sizes go by GPT-2's names, and positions are learned. */
  readonly gpt?: boolean;
  /** Fields that only this family has, or that say more than the generic ones. */
  readonly own?: (own: GgufMetadata, sizes: GgufSizes) => Fields;
}

const RMS = { epsilon: 'rms_norm_eps' };
const LAYER = { epsilon: 'layer_norm_eps', norm: 'layer' } as const;

const WINDOW = 'attention.sliding_window';

/** Switches of biases, as the first layer has them. */
const biased = (own: GgufMetadata, switches: Readonly<Record<string, string>>): Fields =>
  Object.fromEntries(
    Object.entries(switches).map(([field, tensor]) => [
      field,
      own.has(`blk.0.${tensor}.bias`) || (tensor === 'attn_q' && own.has('blk.0.attn_qkv.bias')),
    ]),
  );
const ATTENTION_BIAS = { attention_bias: 'attn_q' };
const BOTH_BIASES = { ...ATTENTION_BIAS, mlp_bias: 'ffn_up' };

/**
 * The layers that slide.
 * @param period where the file has no pattern: all but every period-th
 */
function windows(own: GgufMetadata, { layers }: GgufSizes, window: number, period: number): Fields {
  const key = 'attention.sliding_window_pattern';
  const slides = own.pattern(key, layers) ?? Array.from({ length: layers }, (_, i) => (i + 1) % period !== 0);
  return {
    sliding_window: window,
    layer_types: slides.map((one) => (one ? 'sliding_attention' : 'full_attention')),
  };
}

/**
 * No layer slides: a pattern without a window says nothing.
 * @param fields how the family is told
 */
function noWindow(own: GgufMetadata, fields: Fields): Fields {
  own.raw('attention.sliding_window_pattern');
  return fields;
}

/** Families with one rotary table for all layers have no other for those that slide. */
function oneBase(own: GgufMetadata): void {
  own.expect('rope.freq_base_swa', own.number('rope.freq_base') ?? 10_000);
}

/** The full layers' rotary table, and that of the layers that slide, which is not stretched. */
function twoTables(own: GgufMetadata): Fields {
  const base = own.raw('rope.freq_base') ?? 10_000;
  const full_attention = { ...ropeScaling(own), rope_theta: base };
  const sliding_attention = { rope_theta: own.raw('rope.freq_base_swa') ?? base };
  return { rope_scaling: null, rope_parameters: { full_attention, sliding_attention } };
}

/** A softcap; llama.cpp would divide by zero. */
function softcap(own: GgufMetadata, key: string): Fields {
  const value = own.number(key);
  if (value !== undefined && value <= 0) throw own.fault(key, 'a number above 0', value);
  return value === undefined ? {} : { [key]: value };
}

/** `query_pre_attn_scalar`, which no file has: the head's size, but an equal share of the hidden size in the 27B models. */
const scoreScale = ({ layers, hidden, heads, headDim }: GgufSizes, largest: number): Fields => ({
  query_pre_attn_scalar: layers === largest ? hidden / heads : headDim,
});

/**
 * StarCoder2 was trained with a window of 4096, which no file has: within it, there is nothing to know (decision 0100).
 */
const STARCODER2_WINDOW = 4096;

/** By `general.architecture`. */
export const READINGS: Readonly<Record<string, ArchitectureReading>> = {
  llama: { ...RMS, own: (own) => biased(own, BOTH_BIASES) },
  qwen2: RMS,
  qwen3: { ...RMS, own: (own) => biased(own, ATTENTION_BIAS) },
  gemma: RMS,
  gemma2: {
    ...RMS,
    own: (own, sizes) => {
      oneBase(own);
      return {
        ...scoreScale(sizes, 46),
        ...windows(own, sizes, own.number(WINDOW) ?? 4096, 2),
        ...softcap(own, 'attn_logit_softcapping'),
        ...softcap(own, 'final_logit_softcapping'),
      };
    },
  },
  gemma3: {
    ...RMS,
    own: (own, sizes) => {
      const window = own.count(WINDOW);
      const cap = own.number('final_logit_softcapping') === 0 ? {} : softcap(own, 'final_logit_softcapping');
      const local = own.number('rope.freq_base_swa') ?? 10_000;
      const full = { layer_types: Array.from({ length: sizes.layers }, () => 'full_attention') };
      const sliding = window === undefined ? noWindow(own, full) : windows(own, sizes, window, 6);
      return { ...scoreScale(sizes, 62), ...sliding, ...cap, rope_local_base_freq: local };
    },
  },
  phi3: {
    ...RMS,
    partial: true,
    own: (own) => {
      own.needed(WINDOW); // files of before it was written may be of a model that has one
      return {
        sliding_window: own.count(WINDOW) ?? null,
        original_max_position_embeddings: own.positive('rope.scaling.original_context_length'),
      };
    },
  },
  phi2: { ...LAYER, partial: true },
  olmo2: {
    ...RMS,
    own: (own, sizes) => {
      const window = own.count(WINDOW);
      const bias = biased(own, ATTENTION_BIAS);
      if (window === undefined) return noWindow(own, bias);
      return { ...bias, model_type: 'olmo3', ...windows(own, sizes, window, 4), ...twoTables(own) };
    },
  },
  granite: {
    ...RMS,
    own: (own) => {
      own.expect('rope.scaling.finetuned', true); // how hybrid ones say that nothing is rotated
      return {
        ...biased(own, BOTH_BIASES),
        attention_multiplier: own.positive('attention.scale'),
        // 0 is none to llama.cpp.
        embedding_multiplier: own.number('embedding_scale') || 1,
        residual_multiplier: own.number('residual_scale') || 1,
        logits_scaling: own.positive('logit_scale'),
      };
    },
  },
  starcoder2: {
    epsilon: 'norm_epsilon',
    norm: 'layer',
    own: (own, { context }) => {
      const bias = biased(own, { use_bias: 'attn_q' });
      const window = own.count(WINDOW);
      if (window !== undefined) return { ...bias, sliding_window: window };
      return { ...bias, max_position_embeddings: Math.min(context, STARCODER2_WINDOW) };
    },
  },
  stablelm: {
    ...LAYER,
    partial: true,
    own: (own) => {
      own.raw('use_parallel_residual'); // llama.cpp goes by the norm, and the converter's default is not the model's
      return {
        ...biased(own, { use_qkv_bias: 'attn_q' }),
        qk_layernorm: own.has('blk.0.attn_q_norm.weight'),
        use_parallel_residual: !own.has('blk.0.ffn_norm.weight'),
      };
    },
  },
  // Every fourth layer is not rotated.
  smollm3: { ...RMS, own: (own) => ({ ...biased(own, BOTH_BIASES), no_rope_layer_interval: 4 }) },
  'command-r': {
    ...LAYER,
    own: (own) => ({ ...biased(own, ATTENTION_BIAS), logit_scale: own.positive('logit_scale') }),
  },
  cohere2: {
    ...LAYER,
    own: (own, sizes) => {
      oneBase(own);
      return {
        ...biased(own, ATTENTION_BIAS),
        ...windows(own, sizes, own.positive(WINDOW), 4),
        logit_scale: own.positive('logit_scale'),
      };
    },
  },
  chatglm: { ...RMS, partial: true, own: (own) => biased(own, ATTENTION_BIAS) },
  glm4: { ...RMS, partial: true, own: (own) => biased(own, ATTENTION_BIAS) },
  exaone4: {
    ...RMS,
    own: (own, sizes) => {
      oneBase(own);
      const window = own.count(WINDOW);
      return window === undefined ? noWindow(own, { sliding_window: null }) : windows(own, sizes, window, 4);
    },
  },
  nemotron: {
    epsilon: 'norm_eps',
    norm: 'layer',
    partial: true,
    own: (own) => {
      own.raw('attention.layer_norm_rms_epsilon'); // the converter writes the epsilon under both names
      return biased(own, BOTH_BIASES);
    },
  },
  ernie4_5: { ...RMS, own: (own) => biased(own, { use_bias: 'attn_q' }) },
  seed_oss: { ...RMS, own: (own) => biased(own, { ...BOTH_BIASES, attention_out_bias: 'attn_output' }) },
  arcee: { ...RMS, own: (own) => biased(own, BOTH_BIASES) },
  gpt2: { epsilon: 'layer_norm_epsilon', norm: 'layer', gpt: true },
  starcoder: {
    epsilon: 'layer_norm_epsilon',
    norm: 'layer',
    gpt: true,
    own: (own, { kvHeads }) => {
      // With as many heads of keys as of queries, Hugging Face's code has another order of rows.
      if (kvHeads !== 1) throw own.fault('attention.head_count_kv', '1', kvHeads);
      return { multi_query: true };
    },
  },
};
