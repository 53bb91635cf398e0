/** Families that are Llama but for a switch or two: biases, pairs of the rotation, the MLP. */
import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readSizes } from './config-fields.js';
import { gatedMlp, linear, llamaDecoder, plainMlp } from './llama-like.js';

/** ERNIE 4.5 (dense): neighbours rotated, biases everywhere where the config says. */
export function ernie45(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5, 128);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const bias = config.flag('use_bias', false);
  return llamaDecoder(config, 'ernie4_5', sizes, {
    attention: { qkvBias: bias, outputBias: bias },
    mlp: (prefix) => gatedMlp(prefix, sizes, activation, bias),
    rope: { theta: 500_000, interleaved: true },
    tiedByDefault: true,
  });
}

/** Seed-OSS: biases on q, k and v, and a switch of its own for the one on the output. */
export function seedOss(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-6, 128);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const mlpBias = config.flag('mlp_bias', false);
  return llamaDecoder(config, 'seed_oss', sizes, {
    attention: { qkvBias: config.flag('attention_bias', true), outputBias: config.flag('attention_out_bias', false) },
    mlp: (prefix) => gatedMlp(prefix, sizes, activation, mlpBias),
  });
}

/** Helium: neighbours rotated. */
export function helium(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-8, 128);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const mlpBias = config.flag('mlp_bias', false);
  return llamaDecoder(config, 'helium', sizes, {
    attention: { qkvBias: config.flag('attention_bias', false), outputBias: false },
    mlp: (prefix) => gatedMlp(prefix, sizes, activation, mlpBias),
    rope: { theta: 100_000, interleaved: true },
  });
}

/** Arcee (AFM): plain MLP of squared ReLU. */
export function arcee(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5);
  const { hidden, intermediate } = sizes;
  const activation = readActivation(config, ['hidden_act'], 'relu2');
  const attentionBias = config.flag('attention_bias', false);
  const mlpBias = config.flag('mlp_bias', false);
  return llamaDecoder(config, 'arcee', sizes, {
    attention: { qkvBias: attentionBias, outputBias: attentionBias },
    mlp: (prefix) =>
      plainMlp(
        linear(`${prefix}.mlp.up_proj`, hidden, intermediate, mlpBias),
        linear(`${prefix}.mlp.down_proj`, intermediate, hidden, mlpBias),
        activation,
      ),
  });
}
