import type { ConfigReader } from '../config-reader.js';
import { buildRope } from '../rope.js';
import type { AttentionSpec, DecoderSpec, LayerSpec, RopeSpec } from '../spec.js';
import {
  attention,
  decoder,
  gatedMlp,
  readActivation,
  readRope,
  readSizes,
  readWindows,
  rmsNorm,
  type Sizes,
} from './llama-like.js';

/** Gemma 1: embedding times sqrt(hidden), norms stored as offsets from 1, tanh GELU, tied head. */
export function gemma(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  // `hidden_act` of the first releases said gelu where the weights were trained with its tanh form.
  const activation = readActivation(config, ['hidden_activation'], 'gelu_pytorch_tanh');
  config.raw('hidden_act');
  config.expect('use_bidirectional_attention', false, false);
  const bias = config.flag('attention_bias', false);
  const layers = Array.from({ length: sizes.layers }, (_, i): LayerSpec => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: rmsNorm(`${prefix}.input_layernorm`, sizes.hidden, sizes.epsilon, true),
      attention: attention(prefix, sizes, { qkvBias: bias, outputBias: bias }),
      preMlpNorm: rmsNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon, true),
      mlp: gatedMlp(prefix, sizes, activation),
    };
  });
  return decoder(config, 'gemma', sizes, {
    layers,
    ropes: [readRope(config, sizes)],
    finalNorm: rmsNorm('model.norm', sizes.hidden, sizes.epsilon, true),
    tiedByDefault: true,
    embeddingScale: Math.sqrt(sizes.hidden),
  });
}

/** Gemma 2: norms before and after each block, soft caps on scores and logits, every other layer slides. */
export function gemma2(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const window = config.count('sliding_window', 4096);
  const windows = readWindows(config, sizes.layers, window, (layer) => layer % 2 === 0);
  const softcap = config.optionalNumber('attn_logit_softcapping');
  const shared = readShared(config, sizes);
  const layers = windows.map((layerWindow, i) =>
    gemmaLayer(
      i,
      sizes,
      shared,
      attention(`model.layers.${i}`, sizes, { ...shared.attention, window: layerWindow, softcap }),
    ),
  );
  return gemmaDecoder(config, 'gemma2', sizes, layers, [readRope(config, sizes)]);
}

/** Gemma 3 (text): norms on q and k, five sliding layers with their own rotary table to each full one. */
export function gemma3Text(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const window = config.count('sliding_window', 4096);
  const pattern = config.count('sliding_window_pattern', config.count('_sliding_window_pattern', 6));
  const windows = readWindows(config, sizes.layers, window, (layer) => (layer + 1) % pattern !== 0);
  const softcap = config.optionalNumber('attn_logit_softcapping');
  const shared = readShared(config, sizes);
  const layers = windows.map((layerWindow, i) => {
    const prefix = `model.layers.${i}`;
    const spec = attention(prefix, sizes, {
      ...shared.attention,
      window: layerWindow,
      softcap,
      rope: layerWindow === undefined ? 0 : 1,
      qkNorm: (name) => rmsNorm(`${prefix}.self_attn.${name}`, sizes.headDim, sizes.epsilon, true),
    });
    return gemmaLayer(i, sizes, shared, spec);
  });
  return gemmaDecoder(config, 'gemma3_text', sizes, layers, readTwoRopes(config, sizes));
}

/** The full layers' table, then the sliding layers'. Transformers 5 keys `rope_parameters` by layer type. */
function readTwoRopes(config: ConfigReader, sizes: Sizes): RopeSpec[] {
  const parameters = config.object('rope_parameters');
  const full = parameters?.object('full_attention');
  const sliding = parameters?.object('sliding_attention');
  const localTheta = config.number('rope_local_base_freq', 10_000);
  if (full === undefined || sliding === undefined) {
    const local = buildRope({
      theta: localTheta,
      rotaryDim: sizes.headDim,
      contextLength: sizes.context,
      scaling: undefined,
    });
    return [readRope(config, sizes, 1_000_000), local];
  }
  config.raw('rope_theta');
  config.raw('rope_scaling');
  parameters!.finish();
  return [full, sliding].map((scaling) => {
    const theta = scaling.number('rope_theta');
    const rope = buildRope({ theta, rotaryDim: sizes.headDim, contextLength: sizes.context, scaling });
    scaling.finish();
    return rope;
  });
}

interface Shared {
  readonly activation: ReturnType<typeof readActivation>;
  readonly attention: { readonly qkvBias: boolean; readonly outputBias: boolean; readonly scale: number };
}

function readShared(config: ConfigReader, sizes: Sizes): Shared {
  config.expect('use_bidirectional_attention', false, false);
  config.raw('hidden_act');
  const bias = config.flag('attention_bias', false);
  const scale = config.number('query_pre_attn_scalar', sizes.headDim) ** -0.5;
  return {
    activation: readActivation(config, ['hidden_activation'], 'gelu_pytorch_tanh'),
    attention: { qkvBias: bias, outputBias: bias, scale },
  };
}

/** A layer with the four norms of Gemma 2 and 3. */
function gemmaLayer(layer: number, sizes: Sizes, shared: Shared, spec: AttentionSpec): LayerSpec {
  const prefix = `model.layers.${layer}`;
  const norm = (name: string) => rmsNorm(`${prefix}.${name}`, sizes.hidden, sizes.epsilon, true);
  return {
    preAttentionNorm: norm('input_layernorm'),
    attention: spec,
    postAttentionNorm: norm('post_attention_layernorm'),
    preMlpNorm: norm('pre_feedforward_layernorm'),
    mlp: gatedMlp(prefix, sizes, shared.activation),
    postMlpNorm: norm('post_feedforward_layernorm'),
  };
}

function gemmaDecoder(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  layers: readonly LayerSpec[],
  ropes: readonly RopeSpec[],
): DecoderSpec {
  return decoder(config, modelType, sizes, {
    layers,
    ropes,
    finalNorm: rmsNorm('model.norm', sizes.hidden, sizes.epsilon, true),
    tiedByDefault: true,
    embeddingScale: Math.sqrt(sizes.hidden),
    headSoftcap: config.optionalNumber('final_logit_softcapping'),
  });
}
