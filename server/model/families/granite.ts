import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { attention, decoder, gatedMlp, preNormLayer } from './llama-like.js';

/** Granite 3 (dense): Llama with multipliers on embedding, attention scores, residual branches and logits. */
export function granite(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const attentionBias = config.flag('attention_bias', false);
  const mlpBias = config.flag('mlp_bias', false);
  const scale = config.number('attention_multiplier', 1);
  const residualScale = config.number('residual_multiplier', 1);
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    return {
      ...preNormLayer(
        prefix,
        sizes,
        attention(prefix, sizes, { qkvBias: attentionBias, outputBias: attentionBias, scale }),
        gatedMlp(prefix, sizes, activation, mlpBias),
      ),
      residualScale,
    };
  });
  return decoder(config, 'granite', sizes, {
    layers,
    ropes: [readRope(config, sizes)],
    embeddingScale: config.number('embedding_multiplier', 1),
    headScale: 1 / config.positive('logits_scaling', 1),
  });
}
