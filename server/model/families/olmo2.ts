import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, RopeSpec } from '../spec.js';
import { readActivation, readRope, readSizes, readTwoRopes, readWindows, type Sizes } from './config-fields.js';
import { attention, decoder, gatedMlp, rmsNorm } from './llama-like.js';

/** OLMo 2: norms after each block instead of before, and over the whole of q and k. */
export function olmo2(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5);
  const windows = new Array<undefined>(sizes.layers).fill(undefined);
  return olmo(config, 'olmo2', sizes, windows, [readRope(config, sizes)]);
}

/** OLMo 3: OLMo 2 with a window on three layers of four, whose rotary table is never stretched. */
export function olmo3(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5);
  const window = config.optionalNumber('sliding_window', 4096);
  const windows = readWindows(config, sizes.layers, window, (layer) => (layer + 1) % 4 !== 0);
  const theta = config.positive('rope_theta', 500_000);
  return olmo(config, 'olmo3', sizes, windows, readTwoRopes(config, sizes, { full: theta, sliding: theta }));
}

function olmo(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  windows: readonly (number | undefined)[],
  ropes: readonly RopeSpec[],
): DecoderSpec {
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const bias = config.flag('attention_bias', false);
  const layers = windows.map((window, i) => {
    const prefix = `model.layers.${i}`;
    const heads = { q_norm: sizes.queryHeads, k_norm: sizes.kvHeads };
    return {
      attention: {
        ...attention(prefix, sizes, {
          qkvBias: bias,
          outputBias: bias,
          window,
          rope: window === undefined ? 0 : 1,
          qkNorm: (name) => rmsNorm(`${prefix}.self_attn.${name}`, heads[name] * sizes.headDim, sizes.epsilon),
        }),
        normWhole: true,
      },
      postAttentionNorm: rmsNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon),
      mlp: gatedMlp(prefix, sizes, activation),
      postMlpNorm: rmsNorm(`${prefix}.post_feedforward_layernorm`, sizes.hidden, sizes.epsilon),
    };
  });
  return decoder(config, modelType, sizes, { layers, ropes });
}
