import type { ConfigReader } from '../config-reader.js';
import type { DecoderSpec, LayerSpec, LinearSpec } from '../spec.js';
import { readActivation } from './config-fields.js';
import { layerNorm } from './llama-like.js';

/** GPT-2: Conv1D linears with biases, fused q, k, v, learned positions, layer norms, plain MLP, tied head. */
export function gpt2(config: ConfigReader): DecoderSpec {
  const hidden = config.count('n_embd');
  const heads = config.count('n_head');
  const vocab = config.count('vocab_size');
  const context = config.count('n_positions', 1024);
  const inner = config.count('n_inner', 4 * hidden);
  const epsilon = config.number('layer_norm_epsilon', 1e-5);
  const activation = readActivation(config, ['activation_function'], 'gelu_new');
  config.expect('add_cross_attention', false, false);
  const scaled = config.flag('scale_attn_weights', true);
  const byLayer = config.flag('scale_attn_by_inverse_layer_idx', false);
  const headDim = hidden / heads;
  const layers = Array.from({ length: config.count('n_layer') }, (_, i): LayerSpec => {
    const prefix = `transformer.h.${i}`;
    return {
      preAttentionNorm: layerNorm(`${prefix}.ln_1`, hidden, epsilon),
      attention: {
        qkv: {
          kind: 'fused',
          linear: conv1d(`${prefix}.attn.c_attn`, hidden, 3 * hidden),
          sizes: [hidden, hidden, hidden],
        },
        output: conv1d(`${prefix}.attn.c_proj`, hidden, hidden),
        scale: (scaled ? headDim ** -0.5 : 1) / (byLayer ? i + 1 : 1),
        rope: undefined,
      },
      preMlpNorm: layerNorm(`${prefix}.ln_2`, hidden, epsilon),
      mlp: {
        gated: false,
        input: { kind: 'separate', linears: [conv1d(`${prefix}.mlp.c_fc`, hidden, inner)] },
        output: conv1d(`${prefix}.mlp.c_proj`, inner, hidden),
        activation,
      },
    };
  });
  const tied = config.flag('tie_word_embeddings', true);
  return {
    modelType: 'gpt2',
    vocabSize: vocab,
    hiddenSize: hidden,
    headDim,
    queryHeads: heads,
    kvHeads: heads,
    contextLength: context,
    layers,
    embedding: {
      module: 'transformer.wte',
      weight: 'transformer.wte.weight',
      scale: 1,
      positions: { module: 'transformer.wpe', weight: 'transformer.wpe.weight' },
    },
    ropes: [],
    finalNorm: layerNorm('transformer.ln_f', hidden, epsilon),
    head: {
      linear: {
        module: 'lm_head',
        inFeatures: hidden,
        outFeatures: vocab,
        weight: tied ? 'transformer.wte.weight' : 'lm_head.weight',
      },
      tied,
    },
  };
}

function conv1d(module: string, inFeatures: number, outFeatures: number): LinearSpec {
  return { module, inFeatures, outFeatures, weight: `${module}.weight`, bias: `${module}.bias`, conv1d: true };
}
