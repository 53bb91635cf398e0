import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parsePeftConfig } from '../../server/adapters/peft-config.js';
import { AppError } from '../../server/errors.js';
import { GOLDEN } from './golden-base.js';

const parse = (fields: Record<string, unknown>) => parsePeftConfig(JSON.stringify({ peft_type: 'LORA', ...fields }));
const refusal = (fields: Record<string, unknown>): AppError => {
  try {
    parse(fields);
  } catch (error) {
    assert.ok(error instanceof AppError);
    return error;
  }
  throw new Error(`not refused: ${JSON.stringify(fields)}`);
};

describe('adapter_config.json', () => {
  it('has the defaults of PEFT', () => {
    const config = parse({});
    assert.deepEqual([config.r, config.loraAlpha, config.bias, config.targetModules], [8, 8, 'none', null]);
    assert.deepEqual([config.useRslora, config.useDora, config.loraBias], [false, false, false]);
  });

  it('reads one layer or token as a list, and keeps the order of patterns', () => {
    const config = parse({
      layers_to_transform: 3,
      layers_pattern: 'h',
      trainable_token_indices: { embed_tokens: [4, 2] },
      rank_pattern: { z_proj: 2, a_proj: 3 },
      target_modules: ['q'],
    });
    assert.deepEqual([config.layersToTransform, config.layersPattern], [[3], ['h']]);
    assert.deepEqual(config.trainableTokens, [['embed_tokens', [4, 2]]]);
    assert.deepEqual(config.rankPattern, [
      ['z_proj', 2],
      ['a_proj', 3],
    ]);
  });

  it('takes unknown keys while they are off, and refuses them by name when they are not', () => {
    parse({ use_new: false, new_config: null, new_pattern: {}, new_list: [], new_text: '' });
    for (const value of [true, 1, 0, 'x', ['x'], { x: 1 }]) {
      const error = refusal({ frobnication: value });
      assert.equal(error.reason, 'ADAPTER_UNSUPPORTED');
      assert.match(error.message, /frobnication/);
    }
    const inherited = '{"peft_type": "LORA", "__proto__": {"r": 3}, "constructor": 1}';
    assert.throws(() => parsePeftConfig(inherited), /__proto__ .*: a key that is not known.*constructor .*not known/);
  });

  it('guesses no rank and no alpha where the config says null', () => {
    for (const key of ['r', 'lora_alpha']) {
      const { reason, message } = refusal({ [key]: null });
      assert.equal(reason, 'ADAPTER_INVALID');
      assert.match(message, new RegExp(`${key} is null`));
    }
  });

  it('refuses features that an empty object switches on', () => {
    for (const key of ['use_bdlora', 'arrow_config', 'velora_config', 'kasa_config', 'monteclora_config']) {
      parse({ [key]: null });
      const error = refusal({ [key]: {} });
      assert.equal(error.reason, 'ADAPTER_UNSUPPORTED');
      assert.match(error.message, new RegExp(key));
    }
  });

  it('tells initialisations that changed the base from those that did not', () => {
    for (const init of [true, false, null, 'gaussian', 'eva', 'orthogonal', 'mica']) parse({ init_lora_weights: init });
    for (const init of ['pissa', 'pissa_niter_16', 'PiSSA', 'olora', 'loftq', 'corda', 'lora_ga', 'something_new']) {
      const error = refusal({ init_lora_weights: init });
      assert.equal(error.reason, 'ADAPTER_UNSUPPORTED', init);
      assert.match(error.message, /init_lora_weights/);
      assert.equal(/weight_conversion/.test(error.message), !/loftq|new/.test(init), 'the remedy helps');
    }
  });

  it('refuses every feature that would change the forward pass and is not applied', () => {
    for (const [key, value] of Object.entries({
      layer_replication: [[0, 2]],
      use_qalora: true,
      use_bdlora: { nblocks: 2 },
      arrow_config: { top_k: 1 },
      target_parameters: ['x'],
      velora_config: { num_groups: 2 },
      kasa_config: { beta: 1 },
      monteclora_config: { n: 1 },
      megatron_config: { x: 1 },
    })) {
      const error = refusal({ [key]: value });
      assert.equal(error.reason, 'ADAPTER_UNSUPPORTED', key);
      assert.match(error.message, new RegExp(key));
    }
  });

  it('lists all wrong values at once, with what would be right', () => {
    const error = refusal({
      r: 0,
      lora_alpha: 'x',
      use_dora: 1,
      bias: 'some',
      rank_pattern: { q: -1 },
      modules_to_save: 'x',
    });
    assert.equal(error.reason, 'ADAPTER_INVALID');
    for (const key of ['r is 0', 'lora_alpha', 'use_dora', 'bias', 'rank_pattern', 'modules_to_save']) {
      assert.ok(error.message.includes(key), `${key} in: ${error.message}`);
    }
    assert.match(refusal({ use_dora: true, lora_bias: true }).message, /exclude each other/);
    assert.match(refusal({ alora_invocation_tokens: [] }).message, /alora_invocation_tokens/);
    assert.match(refusal({ target_modules: 'x', layers_to_transform: [1] }).message, /layers_to_transform/);
  });

  it('needs peft_type', () => {
    assert.throws(() => parsePeftConfig('{}'), /peft_type is missing/);
    assert.throws(() => parsePeftConfig('{"peft_type": "lora"}'), /only "LORA"/);
  });

  it('never makes the parser fail with anything but a refusal', () => {
    const golden = readFileSync(`${GOLDEN}adapters/llama/patterns/adapter_config.json`, 'utf8');
    const keys = Object.keys(JSON.parse(golden) as object);
    const change = fc.record({ key: fc.constantFrom(...keys), value: fc.jsonValue({ maxDepth: 3 }) });
    fc.assert(
      fc.property(
        fc.array(change, { maxLength: 4 }),
        fc.nat(golden.length),
        fc.string({ maxLength: 2 }),
        (changes, at, insert) => {
          const config = JSON.parse(golden) as Record<string, unknown>;
          for (const { key, value } of changes) config[key] = value;
          const text = JSON.stringify(config);
          const broken = insert === '' ? text : text.slice(0, at) + insert + text.slice(at);
          try {
            assert.ok(parsePeftConfig(broken).r >= 1);
          } catch (error) {
            assert.ok(error instanceof AppError, String(error));
            assert.match(error.reason, /^ADAPTER_(INVALID|UNSUPPORTED)$/);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});
