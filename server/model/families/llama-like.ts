/**
 * Building blocks shared by the families that descend from Llama: names of tensors, plain linears, RMS norms, rotary
 * settings in the spelling of transformers 4 and 5.
 */
import type { ConfigReader } from '../config-reader.js';
import { buildRope } from '../rope.js';
import type {
  Activation,
  AttentionSpec,
  DecoderSpec,
  LayerSpec,
  LinearSpec,
  MlpSpec,
  NormSpec,
  RopeSpec,
} from '../spec.js';

/** Sizes that almost every family has under the same names. */
export interface Sizes {
  readonly hidden: number;
  readonly layers: number;
  readonly queryHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediate: number;
  readonly vocab: number;
  readonly context: number;
  readonly epsilon: number;
}

/** Reads the sizes; `epsilonName` is `rms_norm_eps` in most families. */
export function readSizes(config: ConfigReader, epsilonName = 'rms_norm_eps', epsilon = 1e-6): Sizes {
  const hidden = config.count('hidden_size');
  const queryHeads = config.count('num_attention_heads');
  const kvHeads = config.count('num_key_value_heads', queryHeads);
  if (queryHeads % kvHeads !== 0) throw config.fault('num_key_value_heads', `a divisor of ${queryHeads}`, kvHeads);
  return {
    hidden,
    layers: config.count('num_hidden_layers'),
    queryHeads,
    kvHeads,
    headDim: config.count('head_dim', hidden / queryHeads),
    intermediate: config.count('intermediate_size'),
    vocab: config.count('vocab_size'),
    context: config.count('max_position_embeddings', 2048),
    epsilon: config.number(epsilonName, epsilon),
  };
}

/** A linear named as PyTorch stores it. */
export function linear(module: string, inFeatures: number, outFeatures: number, bias = false): LinearSpec {
  return { module, inFeatures, outFeatures, weight: `${module}.weight`, bias: bias ? `${module}.bias` : undefined };
}

/** An RMS norm named as PyTorch stores it. */
export function rmsNorm(module: string, width: number, epsilon: number, plusOne = false): NormSpec {
  return { module, kind: 'rms', width, epsilon, weight: `${module}.weight`, plusOne };
}

/** A layer norm named as PyTorch stores it. */
export function layerNorm(module: string, width: number, epsilon: number, bias = true): NormSpec {
  return {
    module,
    kind: 'layer',
    width,
    epsilon,
    weight: `${module}.weight`,
    bias: bias ? `${module}.bias` : undefined,
  };
}

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
};

/** The activation named by one of `fields`, the first that is there. */
export function readActivation(config: ConfigReader, fields: readonly string[], fallback: string): Activation {
  let name = fallback;
  for (const field of fields) {
    const value = config.raw(field);
    if (typeof value === 'string') {
      name = value;
      break;
    }
  }
  const activation = ACTIVATIONS[name];
  if (activation === undefined)
    throw config.fault(fields[0]!, Object.keys(ACTIVATIONS).join(', '), name, 'is not implemented');
  return activation;
}

/** The main rotary table, from `rope_theta` + `rope_scaling` or from `rope_parameters`. */
export function readRope(
  config: ConfigReader,
  sizes: Pick<Sizes, 'headDim' | 'context'>,
  defaultTheta = 10_000,
  defaultPartial = 1,
): RopeSpec {
  const parameters = config.object('rope_parameters') ?? config.object('rope_scaling');
  config.raw('rope_scaling');
  const theta = parameters?.optionalNumber('rope_theta') ?? config.number('rope_theta', defaultTheta);
  const partial =
    parameters?.optionalNumber('partial_rotary_factor') ??
    config.optionalNumber('partial_rotary_factor') ??
    defaultPartial;
  const rotaryDim = Math.floor(sizes.headDim * partial);
  const rope = buildRope({
    theta,
    rotaryDim: rotaryDim - (rotaryDim % 2),
    contextLength: sizes.context,
    scaling: parameters,
    originalContextLength: config.optionalNumber('original_max_position_embeddings'),
  });
  parameters?.finish();
  return rope;
}

/** Attention with separate q, k and v under `prefix.self_attn`. */
export function attention(
  prefix: string,
  sizes: Sizes,
  options: {
    qkvBias?: boolean;
    outputBias?: boolean;
    rope?: number | undefined;
    window?: number | undefined;
    scale?: number;
    softcap?: number | undefined;
    qkNorm?: (name: 'q_norm' | 'k_norm') => NormSpec;
    outputName?: string;
  } = {},
): AttentionSpec {
  const name = `${prefix}.self_attn`;
  const queries = sizes.queryHeads * sizes.headDim;
  const keys = sizes.kvHeads * sizes.headDim;
  return {
    qkv: {
      kind: 'separate',
      linears: [
        linear(`${name}.q_proj`, sizes.hidden, queries, options.qkvBias),
        linear(`${name}.k_proj`, sizes.hidden, keys, options.qkvBias),
        linear(`${name}.v_proj`, sizes.hidden, keys, options.qkvBias),
      ],
    },
    output: linear(`${name}.${options.outputName ?? 'o_proj'}`, queries, sizes.hidden, options.outputBias),
    qNorm: options.qkNorm?.('q_norm'),
    kNorm: options.qkNorm?.('k_norm'),
    scale: options.scale ?? sizes.headDim ** -0.5,
    window: options.window,
    softcap: options.softcap,
    rope: 'rope' in options ? options.rope : 0,
  };
}

/** gate_proj, up_proj, down_proj under `prefix.mlp`. */
export function gatedMlp(prefix: string, sizes: Sizes, activation: Activation, bias = false): MlpSpec {
  const name = `${prefix}.mlp`;
  return {
    gated: true,
    input: {
      kind: 'separate',
      linears: [
        linear(`${name}.gate_proj`, sizes.hidden, sizes.intermediate, bias),
        linear(`${name}.up_proj`, sizes.hidden, sizes.intermediate, bias),
      ],
    },
    output: linear(`${name}.down_proj`, sizes.intermediate, sizes.hidden, bias),
    activation,
  };
}

/** A layer with RMS norms before attention and before the MLP, named as in Llama. */
export function preNormLayer(prefix: string, sizes: Sizes, attentionSpec: AttentionSpec, mlp: MlpSpec): LayerSpec {
  return {
    preAttentionNorm: rmsNorm(`${prefix}.input_layernorm`, sizes.hidden, sizes.epsilon),
    attention: attentionSpec,
    preMlpNorm: rmsNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon),
    mlp,
  };
}

/** Embedding, final norm and head around the layers, with the usual names. */
export function decoder(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  parts: {
    layers: readonly LayerSpec[];
    ropes: readonly RopeSpec[];
    finalNorm?: NormSpec;
    tiedByDefault?: boolean;
    embeddingScale?: number;
    headSoftcap?: number | undefined;
    headScale?: number | undefined;
    headBias?: boolean;
  },
): DecoderSpec {
  const tied = config.flag('tie_word_embeddings', parts.tiedByDefault ?? false);
  const head = linear('lm_head', sizes.hidden, sizes.vocab, parts.headBias ?? false);
  return {
    modelType,
    vocabSize: sizes.vocab,
    hiddenSize: sizes.hidden,
    headDim: sizes.headDim,
    queryHeads: sizes.queryHeads,
    kvHeads: sizes.kvHeads,
    contextLength: sizes.context,
    layers: parts.layers,
    embedding: { module: 'model.embed_tokens', weight: 'model.embed_tokens.weight', scale: parts.embeddingScale ?? 1 },
    ropes: parts.ropes,
    finalNorm: parts.finalNorm ?? rmsNorm('model.norm', sizes.hidden, sizes.epsilon),
    head: {
      linear: tied ? { ...head, weight: 'model.embed_tokens.weight' } : head,
      tied,
      softcap: parts.headSoftcap,
      scale: parts.headScale,
    },
  };
}

/** Which layers slide: `layer_types` where it is there, else `rule`. Returns a window or undefined per layer. */
export function readWindows(
  config: ConfigReader,
  layers: number,
  window: number | undefined,
  rule: (layer: number) => boolean,
): (number | undefined)[] {
  const types = config.texts('layer_types');
  if (types !== undefined && types.length !== layers)
    throw config.fault('layer_types', `${layers} entries`, types.length);
  return Array.from({ length: layers }, (_, layer) => {
    const type = types?.[layer];
    if (type !== undefined && type !== 'full_attention' && type !== 'sliding_attention') {
      throw config.fault('layer_types', 'full_attention or sliding_attention', type, 'is not implemented');
    }
    const slides = type === undefined ? rule(layer) : type === 'sliding_attention';
    return slides ? window : undefined;
  });
}
