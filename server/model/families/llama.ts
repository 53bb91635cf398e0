import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readSizes } from './config-fields.js';
import { gatedMlp, llamaDecoder } from './llama-like.js';

/** Llama 1 to 3.x: grouped-query attention, RMS norm, SwiGLU; biases where the config says. */
export function llama(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const bias = config.flag('attention_bias', false);
  const mlpBias = config.flag('mlp_bias', false);
  return llamaDecoder(config, 'llama', sizes, {
    attention: { qkvBias: bias, outputBias: bias },
    mlp: (prefix) => gatedMlp(prefix, sizes, activation, mlpBias),
  });
}
