import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { attention, decoder, gatedMlp, readActivation, readRope, readSizes, rmsNorm } from './llama-like.js';

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
