import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readRope, readSizes, readWindows } from './config-fields.js';
import { attention, decoder, gatedMlp, preNormLayer, rmsNorm } from './llama-like.js';

/** Qwen2 and 2.5: Llama with biases on q, k and v, and a window on the upper layers where it is switched on. */
export function qwen2(config: ConfigReader): DecoderSpec {
  return qwen(config, 'qwen2', { qkvBias: true, qkNorm: false });
}

/** Qwen3 (dense): norms over each head of q and k instead of biases. */
export function qwen3(config: ConfigReader): DecoderSpec {
  return qwen(config, 'qwen3', { qkvBias: config.flag('attention_bias', false), qkNorm: true });
}

function qwen(config: ConfigReader, modelType: string, options: { qkvBias: boolean; qkNorm: boolean }): DecoderSpec {
  const sizes = readSizes(config);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const slides = config.flag('use_sliding_window', false);
  const window = config.optionalNumber('sliding_window', 4096);
  const firstSliding = config.optionalNumber('max_window_layers') ?? 28;
  const windows = readWindows(config, sizes.layers, slides ? window : undefined, (layer) => layer >= firstSliding);
  const layers = windows.map((layerWindow, i) => {
    const prefix = `model.layers.${i}`;
    return preNormLayer(
      prefix,
      sizes,
      attention(prefix, sizes, {
        qkvBias: options.qkvBias,
        outputBias: options.qkNorm && options.qkvBias,
        window: layerWindow,
        ...(options.qkNorm && {
          qkNorm: (name) => rmsNorm(`${prefix}.self_attn.${name}`, sizes.headDim, sizes.epsilon),
        }),
      }),
      gatedMlp(prefix, sizes, activation),
    );
  });
  return decoder(config, modelType, sizes, { layers, ropes: [readRope(config, sizes)] });
}
