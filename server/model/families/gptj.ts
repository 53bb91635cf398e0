import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readRope } from './config-fields.js';
import { gptDecoder, gptMlp, gptNorm, readGptFields } from './gpt-fields.js';
import { linear } from './llama-like.js';

/** GPT-J: attention and MLP side by side on one norm, neighbours rotated in a part of each head, a bias on the head. */
export function gptj(config: ConfigReader): DecoderSpec {
  const fields = readGptFields(config, { context: 2048, activation: 'gelu_new' });
  const { hidden, headDim } = fields;
  config.expect('rotary', true);
  config.expect('scale_attn_weights', true);
  const rotaryDim = config.count('rotary_dim', 64);
  if (rotaryDim > headDim) throw config.fault('rotary_dim', `at most the ${headDim} dimensions of a head`, rotaryDim);
  const layers = Array.from({ length: fields.layers }, (_, i): LayerSpec => {
    const prefix = `transformer.h.${i}`;
    const square = (name: string) => linear(`${prefix}.attn.${name}`, hidden, hidden);
    return {
      preAttentionNorm: gptNorm(`${prefix}.ln_1`, fields),
      attention: {
        qkv: { kind: 'separate', linears: [square('q_proj'), square('k_proj'), square('v_proj')] },
        output: square('out_proj'),
        scale: headDim ** -0.5,
        rope: 0,
      },
      mlp: gptMlp(prefix, fields, fields.activation, (...sizes) => linear(...sizes, true), ['fc_in', 'fc_out']),
      parallel: true,
    };
  });
  const rope = readRope(config, fields, { partial: rotaryDim / headDim, interleaved: true });
  return gptDecoder(config, 'gptj', fields, { layers, ropes: [rope], tiedByDefault: false, headBias: true });
}
