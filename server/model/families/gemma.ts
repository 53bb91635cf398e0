import type { ConfigReader } from '../config-reader.js';
import type { Activation, DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { attention, decoder, gatedMlp, rmsNorm } from './llama-like.js';

const GELU_TANH = 'gelu_pytorch_tanh';

/** Gemma 1: embedding times sqrt(hidden), norms stored as offsets from 1, tanh GELU, tied head. */
export function gemma(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const activation = readActivationOf(config);
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

/** The first releases said gelu in `hidden_act`, but were trained with its tanh form, as `hidden_activation` says. */
function readActivationOf(config: ConfigReader): Activation {
  const older = config.raw('hidden_act') === 'gelu' ? 'gelu_tanh' : readActivation(config, ['hidden_act'], GELU_TANH);
  if (config.raw('hidden_activation') !== undefined) {
    const newer = readActivation(config, ['hidden_activation'], GELU_TANH);
    if (newer !== older)
      throw config.fault('hidden_activation', 'the same as hidden_act', config.raw('hidden_activation'));
  }
  return older;
}
