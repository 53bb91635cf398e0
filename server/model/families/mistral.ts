import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readOneWindow, readRope, readSizes, readWindows, type Sizes } from './config-fields.js';
import { attention, decoder, gatedMlp, preNormLayer } from './llama-like.js';

/** Mistral 7B: Llama with a sliding window over all layers. */
export function mistral(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  return windowed(config, 'mistral', sizes, readOneWindow(config, sizes.layers, 4096));
}

/** Ministral: a window over some of them. */
export function ministral(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const window = config.optionalNumber('sliding_window', 4096);
  const windows = readWindows(config, sizes.layers, window, () => true);
  return windowed(config, 'ministral', sizes, windows);
}

function windowed(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  windows: readonly (number | undefined)[],
): DecoderSpec {
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const layers = windows.map((window, i) => {
    const prefix = `model.layers.${i}`;
    return preNormLayer(prefix, sizes, attention(prefix, sizes, { window }), gatedMlp(prefix, sizes, activation));
  });
  return decoder(config, modelType, sizes, { layers, ropes: [readRope(config, sizes)] });
}
