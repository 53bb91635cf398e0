import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readRope, readSizes, readWindows } from './config-fields.js';
import { attention, decoder, gatedMlp, preNormLayer } from './llama-like.js';

/** SmolLM3: Llama in which every fourth layer does without rotary positions. */
export function smollm3(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const attentionBias = config.flag('attention_bias', false);
  const mlpBias = config.flag('mlp_bias', false);
  const interval = config.count('no_rope_layer_interval', 4);
  const rotates =
    config.numbers('no_rope_layers') ??
    Array.from({ length: sizes.layers }, (_, i) => Number((i + 1) % interval !== 0));
  if (rotates.length !== sizes.layers) throw config.fault('no_rope_layers', `${sizes.layers} entries`, rotates.length);
  const slides = config.flag('use_sliding_window', false);
  const window = config.optionalNumber('sliding_window');
  const windows = readWindows(
    config,
    sizes.layers,
    slides ? window : undefined,
    (layer) => slides && rotates[layer] === 0,
  );
  const layers = windows.map((layerWindow, i) => {
    const prefix = `model.layers.${i}`;
    return preNormLayer(
      prefix,
      sizes,
      attention(prefix, sizes, {
        qkvBias: attentionBias,
        outputBias: attentionBias,
        window: layerWindow,
        rope: rotates[i] === 0 ? undefined : 0,
      }),
      gatedMlp(prefix, sizes, activation, mlpBias),
    );
  });
  return decoder(config, 'smollm3', sizes, {
    layers,
    ropes: [readRope(config, sizes, { theta: 2_000_000 })],
    tiedByDefault: true,
  });
}
