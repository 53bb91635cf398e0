import type { ConfigReader } from '../config-reader.js';
import type { AttentionSpec, DecoderSpec, LayerSpec, RopeSpec } from '../spec.js';
import { readActivation, readRope, readSizes, readWindows, type Sizes } from './config-fields.js';
import { attention, decoder, gatedMlp, rmsNorm } from './llama-like.js';

/** Gemma 2: norms before and after each block, soft caps on scores and logits, every other layer slides. */
export function gemma2(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const window = config.count('sliding_window', 4096);
  const windows = readWindows(config, sizes.layers, window, (layer) => layer % 2 === 0);
  config.raw('sliding_window_size'); // the same under the name of an early release
  const softcap = config.optionalNumber('attn_logit_softcapping', 50);
  const headSoftcap = config.optionalNumber('final_logit_softcapping', 30);
  const shared = readShared(config);
  const layers = windows.map((layerWindow, i) =>
    gemmaLayer(
      i,
      sizes,
      shared,
      attention(`model.layers.${i}`, sizes, { ...shared.attention, window: layerWindow, softcap }),
    ),
  );
  return gemmaDecoder(config, 'gemma2', sizes, { layers, ropes: [readRope(config, sizes)], headSoftcap });
}

/** What Gemma 2 and 3 read alike. */
export interface Shared {
  readonly activation: ReturnType<typeof readActivation>;
  readonly attention: { readonly qkvBias: boolean; readonly outputBias: boolean; readonly scale: number };
}

/** Reads it. */
export function readShared(config: ConfigReader): Shared {
  config.expect('use_bidirectional_attention', false, false);
  config.raw('hidden_act');
  const bias = config.flag('attention_bias', false);
  const scale = config.positive('query_pre_attn_scalar', 256) ** -0.5;
  return {
    activation: readActivation(config, ['hidden_activation'], 'gelu_pytorch_tanh'),
    attention: { qkvBias: bias, outputBias: bias, scale },
  };
}

/** A layer with the four norms of Gemma 2 and 3. */
export function gemmaLayer(layer: number, sizes: Sizes, shared: Shared, spec: AttentionSpec): LayerSpec {
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

/** Embedding, final norm and head of Gemma 2 and 3. */
export function gemmaDecoder(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  parts: { layers: readonly LayerSpec[]; ropes: readonly RopeSpec[]; headSoftcap: number | undefined },
): DecoderSpec {
  return decoder(config, modelType, sizes, {
    ...parts,
    finalNorm: rmsNorm('model.norm', sizes.hidden, sizes.epsilon, true),
    tiedByDefault: true,
    embeddingScale: Math.sqrt(sizes.hidden),
  });
}
