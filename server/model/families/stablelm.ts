import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec } from '../spec.js';
import { readActivation, readRope, readSizes, type Sizes } from './config-fields.js';
import { attention, decoder, gatedMlp, layerNorm } from './llama-like.js';

/** StableLM 2 and 3B: a quarter of each head rotated; attention and MLP side by side where the config says. */
export function stablelm(config: ConfigReader): DecoderSpec {
  const sizes = readSizes(config, 'layer_norm_eps', 1e-5);
  const activation = readActivation(config, ['hidden_act'], 'silu');
  config.expect('head_dim', sizes.hidden / sizes.queryHeads);
  const qkLayerNorm = config.flag('qk_layernorm', false);
  const qkvBias = config.flag('use_qkv_bias', false);
  const parallel = config.flag('use_parallel_residual', false);
  const layers = Array.from({ length: sizes.layers }, (_, i) => {
    const prefix = `model.layers.${i}`;
    return {
      preAttentionNorm: layerNorm(`${prefix}.input_layernorm`, sizes.hidden, sizes.epsilon),
      attention: attention(prefix, sizes, { qkvBias, ...(qkLayerNorm && { qkNorm: headNorms(prefix, sizes) }) }),
      preMlpNorm: parallel ? undefined : layerNorm(`${prefix}.post_attention_layernorm`, sizes.hidden, sizes.epsilon),
      mlp: gatedMlp(prefix, sizes, activation),
      parallel,
    };
  });
  return decoder(config, 'stablelm', sizes, {
    layers,
    ropes: [readRope(config, sizes, { partial: 0.25 })],
    finalNorm: layerNorm('model.norm', sizes.hidden, sizes.epsilon),
  });
}

/** A layer norm without bias for each head of q and of k (StableLM 2 12B). */
function headNorms(prefix: string, sizes: Sizes) {
  const heads = { q_norm: sizes.queryHeads, k_norm: sizes.kvHeads };
  const names = { q_norm: 'q_layernorm', k_norm: 'k_layernorm' };
  return (name: 'q_norm' | 'k_norm') =>
    Array.from({ length: heads[name] }, (_, head) =>
      layerNorm(`${prefix}.self_attn.${names[name]}.norms.${head}`, sizes.headDim, sizes.epsilon, false),
    );
}
