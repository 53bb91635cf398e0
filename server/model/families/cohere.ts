import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readRope, readSizes, readWindows, type Sizes } from './config-fields.js';
import { attention, decoder, gatedMlp, layerNorm } from './llama-like.js';

/** theta where the config names none. */
const THETA = { cohere: 500_000, cohere2: 10_000 } as const;

/** Cohere (Command R, Aya): both blocks side by side on one layer norm without bias, neighbours rotated, scaled logits. */
export function cohere(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'layer_norm_eps', 1e-5);
  const layers = Array.from({ length: sizes.layers }, () => ({ window: undefined, rope: 0 }));
  return cohereDecoder(config, 'cohere', sizes, layers);
}

/** Cohere 2 (Command R7B): a window and rotary positions on three layers of four, neither on the fourth. */
export function cohere2(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'layer_norm_eps', 1e-5);
  const window = config.optionalNumber('sliding_window', 4096);
  const pattern = config.count('sliding_window_pattern', 4);
  const windows = readWindows(config, sizes.layers, window, (layer) => (layer + 1) % pattern !== 0);
  // What the first files say of the same in words of another code.
  config.expect('layer_switch', pattern);
  config.expect('order_of_interleaved_layers', 'local_attn_first');
  config.expect('position_embedding_type', 'rope_gptj');
  config.expect('rotary_pct', 1);
  config.expect('use_gated_activation', true);
  config.expect('use_parallel_block', true);
  for (const field of ['use_embedding_sharing', 'use_parallel_embedding']) config.raw(field);
  const layers = windows.map((own) => ({ window: own, rope: own === undefined ? undefined : 0 }));
  return cohereDecoder(config, 'cohere2', sizes, layers);
}

function cohereDecoder(
  config: ConfigReader,
  modelType: keyof typeof THETA,
  sizes: Sizes,
  kinds: readonly { readonly window: number | undefined; readonly rope: number | undefined }[],
): DecoderSpec {
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const bias = config.flag('attention_bias', false);
  config.expect('use_qk_norm', false); // weights of their own for every head (Command R+)
  const norm = (module: string) => layerNorm(module, sizes.hidden, sizes.epsilon, false);
  const layers = kinds.map((kind, i): LayerSpec => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: norm(`${prefix}.input_layernorm`),
      attention: attention(prefix, sizes, { qkvBias: bias, outputBias: bias, ...kind }),
      mlp: gatedMlp(prefix, sizes, activation),
      parallel: true,
    };
  });
  return decoder(config, modelType, sizes, {
    layers,
    ropes: [readRope(config, sizes, { theta: THETA[modelType], interleaved: true })],
    finalNorm: norm('model.norm'),
    headScale: config.number('logit_scale', 0.0625),
    tiedByDefault: true,
  });
}
