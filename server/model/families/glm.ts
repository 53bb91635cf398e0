import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { attention, decoder, fusedGatedMlp, preNormLayer, rmsNorm } from './llama-like.js';

/** GLM 4 (its first release): gate and up in one linear, neighbours rotated in half of each head, biases on q, k and v. */
export function glm(config: ConfigReader): DecoderSpec {
  return glmDecoder(config, 'glm', false);
}

/** GLM 4 0414: norms after the blocks, too. */
export function glm4(config: ConfigReader): DecoderSpec {
  return glmDecoder(config, 'glm4', true);
}

function glmDecoder(config: ConfigReader, modelType: string, normsAfter: boolean): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1.5625e-7, 128);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const qkvBias = config.flag('attention_bias', true);
  const layers = Array.from({ length: sizes.layers }, (_, i): LayerSpec => {
    const prefix = `model.layers.${i}`;
    const norm = (name: string) => rmsNorm(`${prefix}.${name}`, sizes.hidden, sizes.epsilon);
    return {
      ...preNormLayer(prefix, sizes, attention(prefix, sizes, { qkvBias }), fusedGatedMlp(prefix, sizes, activation)),
      ...(normsAfter && {
        postAttentionNorm: norm('post_self_attn_layernorm'),
        postMlpNorm: norm('post_mlp_layernorm'),
      }),
    };
  });
  const rope = readRope(config, sizes, { partial: 0.5, interleaved: true });
  return decoder(config, modelType, sizes, { layers, ropes: [rope] });
}
