/** Configs as they are published, with fields that change nothing or say the usual; and that the docs name every family. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { ARCHITECTURES } from '../../server/adapters/gguf/architectures.js';
import { describeDecoder, FAMILIES } from '../../server/model/families/table.js';
import { SMALL_SIZES } from './small-sizes.js';

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

type Fields = Record<string, unknown>;

const sizes = { ...SMALL_SIZES, max_position_embeddings: 4096 };
/** Under GPT-2's names. */
const gptSizes = { n_embd: 64, n_head: 4, n_layer: 2, n_positions: 1024, vocab_size: 128 };
const summary = {
  summary_activation: null,
  summary_first_dropout: 0.1,
  summary_proj_to_labels: true,
  summary_type: 'cls_index',
  summary_use_proj: true,
};

describe('fields of published configs that change nothing', () => {
  const published: Readonly<Record<string, Fields>> = {
    starcoder2: {
      ...sizes,
      activation_function: 'gelu',
      attention_softmax_in_fp32: true,
      hidden_act: 'gelu_pytorch_tanh',
      layer_norm_epsilon: 1e-5,
      mlp_type: 'default',
      norm_epsilon: 1e-5,
      norm_type: 'layer_norm',
      scale_attention_softmax_in_fp32: true,
      scale_attn_weights: true,
      sliding_window: 4096,
      use_bias: true,
    },
    phi3: {
      ...sizes,
      attention_bias: false,
      embd_pdrop: 0,
      full_attn_mod: 1,
      interpolate_factor: 1,
      lm_head_bias: false,
      mlp_bias: false,
      original_max_position_embeddings: 4096,
      partial_rotary_factor: 0.75,
      resid_pdrop: 0,
      sliding_window: 262_144,
      tie_word_embeddings: true,
    },
    gemma2: {
      ...sizes,
      attn_logit_softcapping: 50,
      cache_implementation: 'hybrid',
      final_logit_softcapping: 30,
      hidden_act: 'gelu_pytorch_tanh',
      hidden_activation: 'gelu_pytorch_tanh',
      query_pre_attn_scalar: 256,
      sliding_window: 4096,
      sliding_window_size: 4096,
    },
    smollm3: { ...sizes, max_window_layers: 28, no_rope_layer_interval: 4, pretraining_tp: 2, sliding_window: null },
    llama: { ...sizes, is_llama_config: true, rope_interleaved: false, max_sequence_length: 2048, pretraining_tp: 1 },
    phi: { ...sizes, partial_rotary_factor: 0.5, qk_layernorm: false, embd_pdrop: 0, resid_pdrop: 0.1 },
    stablelm: { ...sizes, partial_rotary_factor: 0.25, use_qkv_bias: true, hidden_dropout: 0, rope_theta: 10_000 },
    qwen3: { ...sizes, head_dim: 16, max_window_layers: 36, use_sliding_window: false, sliding_window: null },
    arcee: { ...sizes, attention_bias: false, hidden_act: 'relu2', mlp_bias: false },
    cohere: { ...sizes, logit_scale: 0.125, layer_norm_eps: 1e-5, model_max_length: 131_072, use_qk_norm: false },
    cohere2: {
      ...sizes,
      cache_implementation: 'hybrid',
      head_dim: 16,
      layer_switch: 4,
      logit_scale: 0.25,
      order_of_interleaved_layers: 'local_attn_first',
      position_embedding_type: 'rope_gptj',
      rope_scaling: null,
      rotary_pct: 1,
      sliding_window: 4096,
      sliding_window_pattern: 4,
      use_embedding_sharing: true,
      use_gated_activation: true,
      use_parallel_block: true,
      use_parallel_embedding: true,
    },
    ernie4_5: { ...sizes, head_dim: 16, rope_theta: 500_000, tie_word_embeddings: true, use_bias: false },
    exaone4: {
      ...sizes,
      head_dim: 16,
      layer_types: ['full_attention', 'full_attention'],
      rope_scaling: {
        factor: 16,
        high_freq_factor: 4,
        low_freq_factor: 1,
        original_max_position_embeddings: 8192,
        rope_type: 'llama3',
      },
      sliding_window: null,
      sliding_window_pattern: null,
    },
    gemma3: {
      boi_token_index: 255_999,
      eoi_token_index: 256_000,
      eos_token_id: [1, 106],
      image_token_index: 262_144,
      initializer_range: 0.02,
      mm_tokens_per_image: 256,
      text_config: {
        hidden_size: 2560,
        intermediate_size: 10_240,
        model_type: 'gemma3_text',
        num_hidden_layers: 34,
        rope_scaling: { factor: 8, rope_type: 'linear' },
        sliding_window: 1024,
      },
      vision_config: {
        hidden_size: 1152,
        image_size: 896,
        intermediate_size: 4304,
        model_type: 'siglip_vision_model',
        num_attention_heads: 16,
        num_hidden_layers: 27,
        patch_size: 14,
        vision_use_head: false,
      },
    },
    glm: { ...sizes, attention_bias: true, head_dim: 16, partial_rotary_factor: 0.5, rms_norm_eps: 1.5625e-7 },
    glm4: { ...sizes, attention_bias: false, head_dim: 16, partial_rotary_factor: 0.5, rope_theta: 10_000 },
    gpt_bigcode: {
      ...gptSizes,
      ...summary,
      activation_function: 'gelu',
      attention_softmax_in_fp32: true,
      inference_runner: 0,
      max_batch_size: null,
      max_sequence_length: null,
      multi_query: true,
      n_inner: 128,
      pad_key_length: true,
      pre_allocate_kv_cache: false,
      scale_attention_softmax_in_fp32: true,
      scale_attn_weights: true,
      validate_runner_input: true,
    },
    gpt_neo: {
      ...summary,
      activation_function: 'gelu_new',
      attention_layers: ['global', 'local'],
      attention_types: [[['global', 'local'], 1]],
      embed_dropout: 0,
      gradient_checkpointing: false,
      hidden_size: 64,
      intermediate_size: null,
      max_position_embeddings: 2048,
      num_heads: 4,
      num_layers: 2,
      resid_dropout: 0,
      vocab_size: 128,
      window_size: 256,
    },
    gpt_neox: {
      ...sizes,
      classifier_dropout: 0.1,
      num_key_value_heads: null,
      rotary_emb_base: 10_000,
      rotary_pct: 0.25,
      use_parallel_residual: true,
    },
    gptj: { ...gptSizes, ...summary, rotary: true, rotary_dim: 8, n_inner: null, scale_attn_weights: true },
    helium: { ...sizes, attention_bias: false, head_dim: 16, mlp_bias: false, rope_theta: 100_000 },
    ministral: { ...sizes, head_dim: 16, layer_types: ['full_attention', 'sliding_attention'], sliding_window: 32_768 },
    nemotron: { ...sizes, head_dim: 16, hidden_act: 'relu2', norm_eps: 1e-5, partial_rotary_factor: 0.5 },
    olmo3: {
      ...sizes,
      rope_scaling: {
        attention_factor: 1.2,
        beta_fast: 32,
        beta_slow: 1,
        factor: 8,
        original_max_position_embeddings: 8192,
        rope_type: 'yarn',
      },
      rope_theta: 500_000,
      sliding_window: 4096,
    },
    opt: {
      _remove_final_layer_norm: false,
      activation_dropout: 0,
      activation_function: 'relu',
      do_layer_norm_before: true,
      dropout: 0.1,
      ffn_dim: 96,
      hidden_size: 64,
      init_std: 0.02,
      layerdrop: 0,
      max_position_embeddings: 2048,
      num_attention_heads: 4,
      num_hidden_layers: 2,
      prefix: '</s>',
      vocab_size: 128,
      word_embed_proj_dim: 64,
    },
    seed_oss: { ...sizes, attention_bias: true, attention_out_bias: false, head_dim: 16, residual_dropout: 0.1 },
  };
  for (const [model_type, fields] of Object.entries(published)) {
    test(model_type, () => {
      assert.equal(describeDecoder({ model_type, ...fields }, 'config.json').modelType, model_type);
    });
  }
});

test('the docs name every family, and README how many there are', () => {
  const [table] = read('docs/families.md').split('\n\nAnything else');
  const named = [...table!.matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, cell]) => cell!.match(/\w+/g)!);
  assert.deepEqual(named.filter((name) => name !== 'model_type').sort(), Object.keys(FAMILIES).sort());
  assert.match(read('README.md'), new RegExp(`^${Object.keys(FAMILIES).length} families:`, 'm'));
});

test('the docs name every architecture of GGUF files', () => {
  const [, table] = /## In GGUF files\n\n(.*?)\n\n/s.exec(read('docs/families.md'))!;
  const named = table!
    .split('\n')
    .slice(2)
    .flatMap((row) => row.split('|')[1]!.match(/(?<=`)[\w-]+(?=`)/g)!);
  assert.deepEqual(named.sort(), [...ARCHITECTURES.keys()].sort());
});

test('the family that the docs show in full is as its file has it', () => {
  const [, example] = /```ts\n(.*?)\n *```/s.exec(read('docs/families.md'))!;
  assert.ok(read('server/model/families/nemotron.ts').includes(example!.replace(/^ {3}/gm, '')));
});
