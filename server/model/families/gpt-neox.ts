import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec } from '../spec.js';
import { readActivation, readRope, readSizes } from './config-fields.js';
import { decoder, layerNorm, linear, plainMlp } from './llama-like.js';

/** GPT-NeoX (Pythia): q, k and v of one linear, head by head; a quarter of each head rotated; both blocks side by side. */
export function gptNeox(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'layer_norm_eps', 1e-5);
  const { hidden, headDim, queryHeads, intermediate, epsilon } = sizes;
  config.expect('head_dim', hidden / queryHeads);
  config.expect('num_key_value_heads', queryHeads);
  const activation = readActivation(config, ['hidden_act'], 'gelu');
  const attentionBias = config.flag('attention_bias', true);
  const parallel = config.flag('use_parallel_residual', true);
  const layers = Array.from({ length: sizes.layers }, (_, i): LayerSpec => {
    const prefix = `gpt_neox.layers.${i}`;
    return {
      preAttentionNorm: layerNorm(`${prefix}.input_layernorm`, hidden, epsilon),
      attention: {
        qkv: {
          kind: 'fused',
          linear: linear(`${prefix}.attention.query_key_value`, hidden, 3 * hidden, attentionBias),
          sizes: [headDim, headDim, headDim],
          parts: queryHeads,
        },
        output: linear(`${prefix}.attention.dense`, hidden, hidden, attentionBias),
        scale: headDim ** -0.5,
        rope: 0,
      },
      preMlpNorm: layerNorm(`${prefix}.post_attention_layernorm`, hidden, epsilon),
      mlp: plainMlp(
        linear(`${prefix}.mlp.dense_h_to_4h`, hidden, intermediate, true),
        linear(`${prefix}.mlp.dense_4h_to_h`, intermediate, hidden, true),
        activation,
      ),
      parallel,
    };
  });
  const theta = config.positive('rotary_emb_base', 10_000);
  return decoder(config, 'gpt_neox', sizes, {
    layers,
    ropes: [readRope(config, sizes, { theta, partial: config.number('rotary_pct', 0.25) })],
    embedding: 'gpt_neox.embed_in',
    finalNorm: layerNorm('gpt_neox.final_layer_norm', hidden, epsilon),
  });
}
