import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { attention, decoder, gatedMlp, preNormLayer } from './llama-like.js';

/** Llama 1 to 3.x: grouped-query attention, RMS norm, SwiGLU; biases where the config says. */
export function llama(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const attentionBias = config.flag('attention_bias', false);
  const mlpBias = config.flag('mlp_bias', false);
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    return preNormLayer(
      prefix,
      sizes,
      attention(prefix, sizes, { qkvBias: attentionBias, outputBias: attentionBias }),
      gatedMlp(prefix, sizes, activation, mlpBias),
    );
  });
  return decoder(config, 'llama', sizes, { layers, ropes: [readRope(config, sizes)] });
}
