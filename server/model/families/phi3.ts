import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { decoder, linear, preNormLayer, readActivation, readRope, readSizes, readWindows } from './llama-like.js';

/** Phi-3 and Phi-4-mini: q, k and v in one linear, gate and up in another; LongRoPE in the long-context ones. */
export function phi3(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const window = config.optionalNumber('sliding_window');
  const windows = readWindows(config, sizes.layers, window, () => true);
  const queries = sizes.queryHeads * sizes.headDim;
  const keys = sizes.kvHeads * sizes.headDim;
  const layers = windows.map((layerWindow, i) => {
    const prefix = `model.layers.${i}`;
    return preNormLayer(
      prefix,
      sizes,
      {
        qkv: {
          kind: 'fused' as const,
          linear: linear(`${prefix}.self_attn.qkv_proj`, sizes.hidden, queries + 2 * keys),
          sizes: [queries, keys, keys],
        },
        output: linear(`${prefix}.self_attn.o_proj`, queries, sizes.hidden),
        scale: sizes.headDim ** -0.5,
        window: layerWindow,
        rope: 0,
      },
      {
        gated: true,
        input: {
          kind: 'fused' as const,
          linear: linear(`${prefix}.mlp.gate_up_proj`, sizes.hidden, 2 * sizes.intermediate),
          sizes: [sizes.intermediate, sizes.intermediate],
        },
        output: linear(`${prefix}.mlp.down_proj`, sizes.intermediate, sizes.hidden),
        activation,
      },
    );
  });
  return decoder(config, 'phi3', sizes, { layers, ropes: [readRope(config, sizes)] });
}
