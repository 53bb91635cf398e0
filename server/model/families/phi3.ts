import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readOneWindow, readRope, readSizes } from './config-fields.js';
import { decoder, fusedGatedMlp, linear, preNormLayer } from './llama-like.js';

/** Early releases called LongRoPE by other names. */
const RULES = { default: 'default', longrope: 'longrope', su: 'longrope', yarn: 'longrope' } as const;

/** Phi-3 and Phi-4-mini: q, k and v in one linear, gate and up in another; LongRoPE in the long-context ones. */
export function phi3(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'rms_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  const windows = readOneWindow(config, sizes.layers);
  // Switches of Phi-4-mini's own code that transformers' has no counterpart for.
  config.expect('full_attn_mod', 1);
  config.expect('interpolate_factor', 1);
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
      fusedGatedMlp(prefix, sizes, activation),
    );
  });
  return decoder(config, 'phi3', sizes, {
    layers,
    ropes: [readRope(config, sizes, { partial: 1, original: 4096, rules: RULES })],
  });
}
