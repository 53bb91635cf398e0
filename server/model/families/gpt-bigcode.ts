import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec, ProjectionSpec } from '../spec.js';
import { gptDecoder, gptMlp, gptNorm, readGptFields } from './gpt-fields.js';
import { linear } from './llama-like.js';

/** GPT-BigCode (SantaCoder, StarCoder): GPT-2 with plain linears, and one key and value head for all queries. */
export function gptBigcode(config: ConfigReader): DecoderSpec {
  const fields = readGptFields(config, { context: 1024, activation: 'gelu_pytorch_tanh' });
  const { hidden, headDim, queryHeads } = fields;
  const shared = config.flag('multi_query', true);
  config.expect('add_cross_attention', false, false);
  // How it was trained and run elsewhere.
  for (const field of [
    'attention_softmax_in_fp32',
    'scale_attention_softmax_in_fp32',
    'inference_runner',
    'pad_key_length',
    'validate_runner_input',
    'num_key_value_heads',
  ]) {
    config.raw(field);
  }
  const biased = (module: string, inFeatures: number, outFeatures: number) =>
    linear(module, inFeatures, outFeatures, true);
  const scale = config.flag('scale_attn_weights', true) ? headDim ** -0.5 : 1;
  const layers = Array.from({ length: fields.layers }, (_, i): LayerSpec => {
    const prefix = `transformer.h.${i}`;
    const module = `${prefix}.attn.c_attn`;
    const qkv: ProjectionSpec = shared
      ? {
          kind: 'fused',
          linear: biased(module, hidden, hidden + 2 * headDim),
          sizes: [hidden, headDim, headDim],
        }
      : {
          kind: 'fused',
          linear: biased(module, hidden, 3 * hidden),
          sizes: [headDim, headDim, headDim],
          parts: queryHeads,
        };
    return {
      preAttentionNorm: gptNorm(`${prefix}.ln_1`, fields),
      attention: { qkv, output: biased(`${prefix}.attn.c_proj`, hidden, hidden), scale, rope: undefined },
      preMlpNorm: gptNorm(`${prefix}.ln_2`, fields),
      mlp: gptMlp(prefix, fields, fields.activation, biased),
    };
  });
  return gptDecoder(
    config,
    'gpt_bigcode',
    { ...fields, kvHeads: shared ? 1 : queryHeads },
    { layers, tiedByDefault: true },
  );
}
