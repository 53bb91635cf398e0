import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readRope, readSizes, readWindows } from './config-fields.js';
import { attention, decoder, gatedMlp, rmsNorm } from './llama-like.js';

/** EXAONE 4: norms after the blocks and over the heads of q and k; where some layers slide, only those are rotated. */
export function exaone4(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const window = config.optionalNumber('sliding_window', 4096);
  // A text ("LLLG") beside `layer_types`, which then says it all.
  const pattern = config.raw('sliding_window_pattern') ?? (window === undefined ? 0 : 4);
  const types = config.raw('layer_types');
  if (types === undefined && (typeof pattern !== 'number' || (window !== undefined && pattern < 1)))
    throw config.fault('sliding_window_pattern', 'a positive whole number, or layer_types beside it', pattern);
  const windows = readWindows(
    config,
    sizes.layers,
    window,
    (layer) => window !== undefined && (layer + 1) % Number(pattern) !== 0,
  );
  const layers = windows.map((own, i): LayerSpec => {
    const prefix = `model.layers.${i}`;
    return {
      attention: attention(prefix, sizes, {
        window: own,
        rope: window === undefined || own !== undefined ? 0 : undefined,
        qkNorm: (name) => rmsNorm(`${prefix}.self_attn.${name}`, sizes.headDim, sizes.epsilon),
      }),
      postAttentionNorm: rmsNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon),
      mlp: gatedMlp(prefix, sizes, activation),
      postMlpNorm: rmsNorm(`${prefix}.post_feedforward_layernorm`, sizes.hidden, sizes.epsilon),
    };
  });
  return decoder(config, 'exaone4', sizes, { layers, ropes: [readRope(config, sizes)] });
}
