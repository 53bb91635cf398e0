import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { attention, decoder, gatedMlp, rmsNorm } from './llama-like.js';

/** OLMo 2: norms after each block instead of before, and over the whole of q and k. */
export function olmo2(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const bias = config.flag('attention_bias', false);
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    const heads = { q_norm: sizes.queryHeads, k_norm: sizes.kvHeads };
    return {
      attention: {
        ...attention(prefix, sizes, {
          qkvBias: bias,
          outputBias: bias,
          qkNorm: (name) => rmsNorm(`${prefix}.self_attn.${name}`, heads[name] * sizes.headDim, sizes.epsilon),
        }),
        normWhole: true,
      },
      postAttentionNorm: rmsNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon),
      mlp: gatedMlp(prefix, sizes, activation),
      postMlpNorm: rmsNorm(`${prefix}.post_feedforward_layernorm`, sizes.hidden, sizes.epsilon),
    };
  });
  return decoder(config, 'olmo2', sizes, { layers, ropes: [readRope(config, sizes)] });
}
