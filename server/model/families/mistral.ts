import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readOneWindow, readRope, readSizes } from './config-fields.js';
import { attention, decoder, gatedMlp, preNormLayer } from './llama-like.js';

/** Mistral 7B: Llama with a sliding window over all layers. */
export function mistral(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const windows = readOneWindow(config, sizes.layers, 4096);
  const layers = windows.map((layerWindow, i) => {
    const prefix = `model.layers.${i}`;
    return preNormLayer(
      prefix,
      sizes,
      attention(prefix, sizes, { window: layerWindow }),
      gatedMlp(prefix, sizes, activation),
    );
  });
  return decoder(config, 'mistral', sizes, { layers, ropes: [readRope(config, sizes)] });
}
