import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readSizes, readTwoRopes, readWindows } from './config-fields.js';
import { gemmaDecoder, gemmaLayer, readShared } from './gemma2.js';
import { attention, rmsNorm } from './llama-like.js';

/** Gemma 3 (text): norms on q and k, five sliding layers with their own rotary table to each full one. */
export function gemma3Text(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const window = config.count('sliding_window', 4096);
  const pattern = config.count('sliding_window_pattern', 6);
  const windows = readWindows(config, sizes.layers, window, (layer) => (layer + 1) % pattern !== 0);
  config.optionalNumber('attn_logit_softcapping'); // has no effect in the reference: its attention does not get it
  const shared = readShared(config);
  const layers = windows.map((layerWindow, i) => {
    const prefix = `model.layers.${i}`;
    const spec = attention(prefix, sizes, {
      ...shared.attention,
      window: layerWindow,
      rope: layerWindow === undefined ? 0 : 1,
      qkNorm: (name) => rmsNorm(`${prefix}.self_attn.${name}`, sizes.headDim, sizes.epsilon, true),
    });
    return gemmaLayer(i, sizes, shared, spec);
  });
  const headSoftcap = config.optionalNumber('final_logit_softcapping');
  const ropes = readTwoRopes(config, sizes, {
    full: config.positive('rope_theta', 1_000_000),
    sliding: config.positive('rope_local_base_freq', 10_000),
  });
  return gemmaDecoder(config, 'gemma3_text', sizes, { layers, ropes, headSoftcap });
}
