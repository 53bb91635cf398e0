import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec, LinearSpec } from '../spec.js';
import { gptDecoder, gptMlp, gptNorm, readGptFields } from './gpt-fields.js';

/** GPT-2: Conv1D linears with biases, fused q, k, v, learned positions, layer norms, plain MLP, tied head. */
export function gpt2(config: ConfigReader): DecoderSpec {
  const fields = readGptFields(config, { context: 1024, activation: 'gelu_new' });
  const { hidden, headDim } = fields;
  config.expect('add_cross_attention', false, false);
  const scale = config.flag('scale_attn_weights', true) ? headDim ** -0.5 : 1;
  const byLayer = config.flag('scale_attn_by_inverse_layer_idx', false);
  const layers = Array.from({ length: fields.layers }, (_, i): LayerSpec => {
    const prefix = `transformer.h.${i}`;
    return {
      preAttentionNorm: gptNorm(`${prefix}.ln_1`, fields),
      attention: {
        qkv: {
          kind: 'fused',
          linear: conv1d(`${prefix}.attn.c_attn`, hidden, 3 * hidden),
          sizes: [hidden, hidden, hidden],
        },
        output: conv1d(`${prefix}.attn.c_proj`, hidden, hidden),
        scale: scale / (byLayer ? i + 1 : 1),
        rope: undefined,
      },
      preMlpNorm: gptNorm(`${prefix}.ln_2`, fields),
      mlp: gptMlp(prefix, fields, fields.activation, conv1d),
    };
  });
  return gptDecoder(config, 'gpt2', fields, { layers, tiedByDefault: true });
}

function conv1d(module: string, inFeatures: number, outFeatures: number): LinearSpec {
  return { module, inFeatures, outFeatures, weight: `${module}.weight`, bias: `${module}.bias`, conv1d: true };
}
