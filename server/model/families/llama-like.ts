/** Building blocks shared by the families that descend from Llama: linears and norms under their usual names. */
import type { ConfigReader } from '../config-reader.js';
import { reachOf } from '../rope.js';
import type {
  Activation,
  AttentionSpec,
  DecoderSpec,
  HeadNorms,
  LayerSpec,
  LinearSpec,
  MlpSpec,
  NormSpec,
  PositionTable,
  RopeSpec,
} from '../spec.js';
import { type RopeOptions, readRope, type Sizes } from './config-fields.js';

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

/** What attention with separate q, k and v may have of its own. */
export interface AttentionOptions {
  qkvBias?: boolean;
  outputBias?: boolean;
  rope?: number | undefined;
  window?: number | undefined;
  scale?: number;
  softcap?: number | undefined;
  qkNorm?: (name: 'q_norm' | 'k_norm') => HeadNorms;
  outputName?: string;
}

/** Attention with separate q, k and v under `prefix.self_attn`. */
export function attention(prefix: string, sizes: Sizes, options: AttentionOptions = {}): AttentionSpec {
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

/** gate_up_proj, which is both, and down_proj under `prefix.mlp`. */
export function fusedGatedMlp(prefix: string, { hidden, intermediate }: Sizes, activation: Activation): MlpSpec {
  const name = `${prefix}.mlp`;
  return {
    gated: true,
    input: {
      kind: 'fused',
      linear: linear(`${name}.gate_up_proj`, hidden, 2 * intermediate),
      sizes: [intermediate, intermediate],
    },
    output: linear(`${name}.down_proj`, intermediate, hidden),
    activation,
  };
}

/** up and down under the names given, act between them. */
export function plainMlp(up: LinearSpec, down: LinearSpec, activation: Activation): MlpSpec {
  return { gated: false, input: { kind: 'separate', linears: [up] }, output: down, activation };
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
    /** The module of the embedding, where it is another. */
    embedding?: string;
    positions?: PositionTable;
  },
): DecoderSpec {
  const tied = config.flag('tie_word_embeddings', parts.tiedByDefault ?? false);
  const embedding = parts.embedding ?? 'model.embed_tokens';
  const head = linear('lm_head', sizes.hidden, sizes.vocab, parts.headBias ?? false);
  return {
    modelType,
    vocabSize: sizes.vocab,
    hiddenSize: sizes.hidden,
    headDim: sizes.headDim,
    queryHeads: sizes.queryHeads,
    kvHeads: sizes.kvHeads,
    contextLength: parts.ropes.reduce((most, rope) => Math.max(most, reachOf(rope, sizes.context)), sizes.context),
    layers: parts.layers,
    embedding: {
      module: embedding,
      weight: `${embedding}.weight`,
      scale: parts.embeddingScale ?? 1,
      positions: parts.positions,
    },
    ropes: parts.ropes,
    finalNorm: parts.finalNorm ?? rmsNorm('model.norm', sizes.hidden, sizes.epsilon),
    head: {
      linear: tied ? { ...head, weight: `${embedding}.weight` } : head,
      tied,
      softcap: parts.headSoftcap,
      scale: parts.headScale,
    },
  };
}

/** A decoder of Llama's layers, where they differ in no more than these. */
export function llamaDecoder(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  own: {
    readonly attention?: Pick<AttentionOptions, 'qkvBias' | 'outputBias'>;
    /** By layer; absent = no layer slides. */
    readonly windows?: readonly (number | undefined)[];
    readonly mlp: (prefix: string) => MlpSpec;
    readonly rope?: RopeOptions;
    readonly tiedByDefault?: boolean;
  },
): DecoderSpec {
  const { windows, mlp, rope, tiedByDefault = false } = own;
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    return preNormLayer(
      prefix,
      sizes,
      attention(prefix, sizes, { ...own.attention, window: windows?.[i] }),
      mlp(prefix),
    );
  });
  return decoder(config, modelType, sizes, { layers, ropes: [readRope(config, sizes, rope)], tiedByDefault });
}
