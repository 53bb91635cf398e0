/** What config.json may say: switches that are refused by name, and spellings of one model by several versions. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { AppError } from '../../server/errors.js';
import { describeDecoder } from '../../server/model/families/table.js';
import type { DecoderSpec } from '../../server/model/spec.js';
import { SMALL_SIZES } from './small-sizes.js';

type Fields = Record<string, unknown>;

const fixture = (name: string): Fields =>
  JSON.parse(readFileSync(new URL(`../fixtures/families/${name}/config.json`, import.meta.url), 'utf8')) as Fields;

/** The fixture's decoder with some fields changed; undefined takes a field away. */
const decoder = (name: string, changes: Fields = {}): DecoderSpec => {
  const fields = Object.entries({ ...fixture(name), ...changes }).filter(([, value]) => value !== undefined);
  return describeDecoder(Object.fromEntries(fields), 'config.json');
};

/** The message with which a changed fixture is refused; empty where it is taken. */
const refusal = (name: string, changes: Fields): string => {
  try {
    decoder(name, changes);
  } catch (error) {
    assert.ok(error instanceof AppError && error.reason === 'MODEL_INVALID', String(error));
    return error.message;
  }
  return '';
};

describe('refusals', () => {
  test('a field that nobody reads is refused by name, unless it is switched off', () => {
    assert.match(refusal('llama-bias', { attention_sink_size: 4 }), /attention_sink_size = 4/);
    assert.equal(refusal('llama-bias', { attention_sink_size: null, new_switch: false, new_list: [] }), '');
  });

  test('an unknown family is refused with those that are there', () => {
    for (const type of ['mamba', 'mistral3', 'gemma3n', 'qwen2_moe', 'constructor', undefined, 7])
      assert.match(refusal('llama-bias', { model_type: type }), /model_type .* is not supported; supported: .*llama/);
  });

  test('an unknown activation or rotary rule is refused with those that are there', () => {
    assert.match(
      refusal('llama-bias', { hidden_act: 'xielu' }),
      /hidden_act "xielu" is not implemented; wanted .*silu/,
    );
    for (const rope_type of ['spiral', 'mrope', 'proportional', 'toString'])
      assert.match(
        refusal('llama-bias', { rope_parameters: { rope_type, rope_theta: 1e4 } }),
        new RegExp(`rope_type "${rope_type}" is not implemented; wanted default, linear`),
      );
    assert.match(
      refusal('phi3', { rope_parameters: undefined, rope_scaling: { type: 'linear', factor: 2 } }),
      /rope_type "linear" is not implemented; wanted default, longrope/,
    );
    assert.match(
      refusal('llama-bias', { rope_parameters: { rope_type: 'linear', rope_theta: 1e4, factor: 2, twist: 3 } }),
      /rope_parameters: .*twist = 3/,
    );
  });

  const switches: readonly (readonly [fixture: string, changes: Fields, field: string])[] = [
    ['llama-bias', { clip_qkv: 8 }, 'clip_qkv'],
    ['llama-bias', { use_sliding_window: true }, 'use_sliding_window'],
    ['llama-bias', { partial_rotary_factor: 0.5 }, 'partial_rotary_factor'],
    ['llama-bias', { qk_layernorm: true }, 'qk_layernorm'],
    ['llama-bias', { num_local_experts: 8 }, 'num_local_experts'],
    ['llama-bias', { quantization_config: { bits: 4 } }, 'quantization_config'],
    ['llama-bias', { num_key_value_heads: 3 }, 'num_key_value_heads'],
    ['llama-bias', { hidden_size: -1 }, 'hidden_size'],
    ['llama-bias', { num_attention_heads: 6, head_dim: undefined }, 'hidden_size'],
    ['llama-bias', { rope_parameters: { rope_type: 'linear', factor: 0 } }, 'factor'],
    ['llama-bias', { rope_parameters: { rope_type: 'default', rope_theta: -1 } }, 'rope_theta'],
    ['granite', { logits_scaling: 0 }, 'logits_scaling'],
    ['mistral-heads', { attention_bias: true }, 'attention_bias'],
    ['mistral-heads', { layer_types: ['sliding_attention', 'full_attention'] }, 'layer_types'],
    ['qwen2-sliding', { layer_types: ['linear_attention', 'full_attention'] }, 'layer_types'],
    ['qwen2-sliding', { use_sliding_window: false }, 'layer_types'],
    ['qwen2-sliding', { layer_types: ['full_attention'] }, 'layer_types'],
    ['qwen2-sliding', { use_mrope: true }, 'use_mrope'],
    ['gemma2', { use_bidirectional_attention: true }, 'use_bidirectional_attention'],
    ['gemma3', { use_bidirectional_attention: true }, 'use_bidirectional_attention'],
    ['gemma3', { rope_parameters: { rope_type: 'default', rope_theta: 1e4 } }, 'rope_theta'],
    ['gemma3', { rope_scaling: { rope_type: 'linear', factor: 8 } }, 'rope_scaling'],
    ['gemma3-vision', { text_config: undefined }, 'text_config'],
    ['gemma3-vision', { text_config: { model_type: 'gemma3n_text' } }, 'text_config: model_type'],
    ['gemma3-vision', { text_config: { model_type: 'gemma3_text', clip_qkv: 8 } }, 'text_config: .*clip_qkv'],
    ['phi3', { attention_bias: true }, 'attention_bias'],
    ['phi3', { mlp_bias: true }, 'mlp_bias'],
    ['phi3', { lm_head_bias: true }, 'lm_head_bias'],
    ['phi3-longrope', { rope_parameters: undefined, rope_scaling: { type: 'su', short_factor: [1] } }, 'short_factor'],
    ['phi', { rope_parameters: undefined, partial_rotary_factor: 0.9 }, 'partial_rotary_factor'],
    ['smollm3', { no_rope_layers: [1, 0] }, 'no_rope_layers'],
    ['stablelm', { head_dim: 8 }, 'head_dim'],
    ['starcoder2', { mlp_type: 'gated' }, 'mlp_type'],
    ['starcoder2', { norm_type: 'rms_norm' }, 'norm_type'],
    ['gpt2-scale', { add_cross_attention: true }, 'add_cross_attention'],
    ['olmo2', { clip_qkv: 8 }, 'clip_qkv'],
    ['granite', { position_embedding_type: 'nope' }, 'position_embedding_type'],
    ['cohere', { use_qk_norm: true }, 'use_qk_norm'],
    ['cohere2', { position_embedding_type: 'alibi' }, 'position_embedding_type'],
    ['cohere2', { sliding_window: null }, 'layer_types'],
    ['exaone4', { layer_types: undefined, sliding_window_pattern: 'LLLG' }, 'sliding_window_pattern'],
    ['gpt_bigcode', { n_embd: 30 }, 'n_embd'],
    ['gpt_neo', { attention_types: [[['global'], 1]] }, 'attention_types'],
    ['gpt_neo', { attention_types: [['global', 'local']] }, 'attention_types'],
    ['gpt_neo', { attention_layers: ['local', 'local', 'local'] }, 'attention_layers'],
    ['gpt_neox', { head_dim: 16 }, 'head_dim'],
    ['gptj', { rotary: false }, 'rotary'],
    ['gptj', { rotary_dim: 16 }, 'rotary_dim'],
    ['opt', { do_layer_norm_before: false }, 'do_layer_norm_before'],
    ['opt', { word_embed_proj_dim: 16 }, 'word_embed_proj_dim'],
    ['opt', { _remove_final_layer_norm: true }, '_remove_final_layer_norm'],
    ['opt', { hidden_size: 30 }, 'hidden_size'],
  ];
  for (const [name, changes, field] of switches) {
    test(`${name} with ${JSON.stringify(changes)} is refused and ${field} is named`, () => {
      assert.match(refusal(name, changes), new RegExp(`config.json.*${field}`));
    });
  }
});

describe('spellings', () => {
  /** The frequencies and windows are what versions spell differently. */
  const same = (name: string, changes: Fields) => assert.deepEqual(decoder(name, changes), decoder(name));

  test('rope_scaling and rope_theta of transformers 4 mean what rope_parameters mean', () => {
    const older = { rope_parameters: undefined, rope_theta: 10_000 };
    same('llama-linear', { ...older, rope_scaling: { type: 'linear', factor: 4 } });
    same('llama-dynamic', { ...older, rope_scaling: { type: 'dynamic', factor: 2 } });
    same('llama-yarn', {
      ...older,
      rope_scaling: { rope_type: 'yarn', type: 'yarn', factor: 4, original_max_position_embeddings: 32 },
    });
    same('stablelm', { ...older, partial_rotary_factor: 0.25 });
    same('stablelm', { ...older });
    const { long_factor, short_factor } = fixture('phi3-longrope').rope_parameters as Fields;
    for (const type of ['longrope', 'su', 'yarn'])
      same('phi3-longrope', { ...older, rope_scaling: { type, long_factor, short_factor } });
  });

  test('each family has the rotary settings that transformers gives it', () => {
    const without = { rope_parameters: undefined };
    for (const name of ['cohere', 'cohere2', 'ernie4_5', 'glm', 'gpt_neox', 'helium', 'nemotron', 'olmo3'])
      same(name, without);
    same('gpt_neox-serial', { ...without, rotary_emb_base: 500, rotary_pct: 1 });
    const { full_attention } = fixture('olmo3-yarn').rope_parameters as { full_attention: Fields };
    same('olmo3-yarn', { ...without, rope_theta: 10_000, rope_scaling: full_attention });
  });

  test('the original context beside the rotary settings precedes the one among them', () => {
    const scaling = fixture('llama-longrope').rope_parameters as Fields;
    const [rope] = decoder('llama-longrope', {
      original_max_position_embeddings: 48,
      rope_parameters: scaling,
    }).ropes;
    assert.equal(rope!.beyond?.length, 48);
  });

  test('Gemma 3 with one pattern and one local theta is Gemma 3 with a table for each kind of layer', () => {
    same('gemma3-scaled', {
      layer_types: undefined,
      rope_parameters: undefined,
      rope_theta: 50_000,
      rope_local_base_freq: 500,
      rope_scaling: { rope_type: 'linear', factor: 8 },
    });
  });

  test('layer kinds follow from the older fields', () => {
    for (const name of ['gemma2', 'qwen2-sliding', 'smollm3-sliding', 'mistral-heads'])
      same(name, { layer_types: undefined });
    for (const name of ['smollm3-sliding', 'smollm3']) same(name, { no_rope_layers: undefined });
    for (const name of ['cohere2', 'exaone4', 'olmo3']) same(name, { layer_types: undefined });
    same('cohere2', { layer_types: undefined, sliding_window_pattern: 4 });
    same('exaone4', { sliding_window_pattern: 'LLLG' });
    same('gpt_neo', { attention_layers: undefined });
  });

  test('what a config leaves out has the value that transformers gives it', () => {
    const gemma2 = decoder('gemma2', {
      attn_logit_softcapping: undefined,
      final_logit_softcapping: undefined,
      query_pre_attn_scalar: undefined,
      sliding_window: undefined,
      hidden_activation: undefined,
      tie_word_embeddings: undefined,
    });
    const [first] = gemma2.layers;
    assert.deepEqual(
      [first!.attention.softcap, gemma2.head.softcap, first!.attention.scale, first!.attention.window],
      [50, 30, 1 / 16, 4096],
    );
    assert.ok(gemma2.head.tied);
    assert.equal(decoder('gemma2-uncapped').head.softcap, undefined);
    const mistral = { model_type: 'mistral', ...SMALL_SIZES };
    assert.equal(describeDecoder(mistral, 'config.json').layers[0]!.attention.window, 4096);
    assert.equal(describeDecoder({ ...mistral, sliding_window: null }, '').layers[0]!.attention.window, undefined);
    assert.equal(decoder('llama-bias', { head_dim: null }).headDim, 8);
    assert.equal(
      decoder('phi3-longrope', { original_max_position_embeddings: undefined }).ropes[0]!.beyond!.length,
      4096,
    );
  });

  test("Gemma's gelu is its tanh form, and two names for two functions are refused", () => {
    const gemma = { model_type: 'gemma', ...SMALL_SIZES };
    const activation = (more: Fields) => describeDecoder({ ...gemma, ...more }, '').layers[0]!.mlp.activation;
    assert.equal(activation({ hidden_act: 'gelu' }), 'gelu_tanh');
    assert.equal(activation({ hidden_act: 'gelu', hidden_activation: 'gelu_pytorch_tanh' }), 'gelu_tanh');
    assert.equal(activation({ hidden_act: 'silu' }), 'silu');
    assert.throws(
      () => activation({ hidden_act: 'silu', hidden_activation: 'gelu_pytorch_tanh' }),
      /hidden_activation/,
    );
  });

  test('a head is tied or not as the config says, in every family', () => {
    for (const name of [
      'llama-bias',
      'gemma2',
      'phi',
      'starcoder2',
      'stablelm',
      'granite',
      'gpt2-scale',
      'gpt_neox',
      'gptj',
      'opt',
      'cohere',
    ]) {
      for (const tie_word_embeddings of [true, false]) {
        const { head, embedding } = decoder(name, { tie_word_embeddings });
        assert.equal(head.tied, tie_word_embeddings);
        assert.equal(head.linear.weight, tie_word_embeddings ? embedding.weight : 'lm_head.weight');
      }
    }
  });

  test('dynamic rotary tables reach past the trained context by their factor', () => {
    assert.equal(decoder('llama-dynamic').contextLength, 64);
    assert.equal(decoder('llama-linear').contextLength, 128);
  });
});
