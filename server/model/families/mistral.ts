import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readOneWindow, readSizes, readWindows, type Sizes } from './config-fields.js';
import { gatedMlp, llamaDecoder } from './llama-like.js';

/** Mistral 7B: Llama with a sliding window over all layers. */
export function mistral(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  return windowed(config, 'mistral', sizes, readOneWindow(config, sizes.layers, 4096));
}

/** Ministral: a window over some of them. */
export function ministral(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const window = config.optionalNumber('sliding_window', 4096);
  return windowed(
    config,
    'ministral',
    sizes,
    readWindows(config, sizes.layers, window, () => true),
  );
}

function windowed(
  config: ConfigReader,
  modelType: string,
  sizes: Sizes,
  windows: readonly (number | undefined)[],
): DecoderSpec {
  const activation = readActivation(config, ['hidden_act'], 'silu');
  return llamaDecoder(config, modelType, sizes, { windows, mlp: (prefix) => gatedMlp(prefix, sizes, activation) });
}
