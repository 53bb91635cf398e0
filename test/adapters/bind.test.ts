import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import fc from 'fast-check';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { AdapterBase, BoundAdapter } from '../../server/adapters/types.js';
import { AppError } from '../../server/errors.js';
import { type AdapterFiles, numbers, pair, writeAdapter } from './adapter-files.js';
import { goldenBase } from './golden-base.js';

const dir = mkdtempSync(join(tmpdir(), 'bind-'));
after(() => rmSync(dir, { recursive: true }));
const base: AdapterBase = await goldenBase('llama');
const tied: AdapterBase = await goldenBase('llama-rope3');
let count = 0;

function bind(files: AdapterFiles, on = base): Promise<BoundAdapter> {
  count += 1;
  return readAdapterFolder(writeAdapter(join(dir, String(count)), files), on);
}

const Q0 = 'model.layers.0.self_attn.q_proj';
const Q1 = 'model.layers.1.self_attn.q_proj';
const good = { ...pair(Q0, 2, 48, 48), ...pair(Q1, 2, 48, 48, 3) };
const renamed = (rename: (name: string) => string) =>
  Object.fromEntries(Object.entries(good).map(([name, tensor]) => [rename(name), tensor]));

async function refused(files: AdapterFiles, reason: string, message: RegExp, on = base): Promise<void> {
  await assert.rejects(bind(files, on), (error: unknown) => {
    assert.ok(error instanceof AppError, String(error));
    assert.equal(error.reason, reason, error.message);
    assert.match(error.message, message);
    return true;
  });
}

describe('binding', () => {
  it('understands the names that wrappers leave', async () => {
    const plain = await bind({});
    for (const rename of [
      (name: string) => name.replace('.weight', '.my-adapter.weight'),
      (name: string) => name.replace('base_model.model.', ''),
      (name: string) => name.replace('base_model.model.', 'base_model.'),
      (name: string) => name.replace('base_model.model.', 'base_model.model._orig_mod.'),
      (name: string) => name.replace('base_model.', 'module.base_model.'),
      (name: string) => name.replace('.self_attn', '._fsdp_wrapped_module.self_attn'),
    ]) {
      const bound = await bind({ tensors: renamed(rename) });
      assert.deepEqual(bound.linears, plain.linears, rename('base_model.model.self_attn.weight'));
    }
  });

  it('takes the paths of a config as those of the model without its head where the tensors have these', async () => {
    const headless = (tensors: NonNullable<AdapterFiles['tensors']>) =>
      Object.fromEntries(
        Object.entries(tensors).map(([name, tensor]) => [name.replace('model.model.', 'model.'), tensor]),
      );
    const tensors = headless(good);
    const scaled = await bind({ tensors, config: { alpha_pattern: { '^layers\\.0\\..*': 40 } } });
    assert.deepEqual(
      scaled.linears.map(({ scaling }) => scaling),
      [20, 2],
    );
    const ranked = await bind({
      tensors: headless({ ...pair(Q0, 5, 48, 48), ...pair(Q1, 2, 48, 48) }),
      config: { target_modules: 'layers\\.\\d+\\.self_attn\\.q_proj', rank_pattern: { '^layers.0.*': 5 } },
    });
    assert.deepEqual(
      ranked.linears.map(({ rank }) => rank),
      [5, 2],
    );
    const named = { target_modules: ['q_proj', 'lm_head'], modules_to_save: ['lm_head'] };
    const { linears, warnings } = await bind({ tensors, config: named });
    assert.equal(linears.length, 2);
    assert.match(warnings.join(), /lm_head is named/);
    const K = [0, 1].map((layer) => pair(`model.layers.${layer}.self_attn.k_proj`, 2, 64, 16));
    const untied = { target_modules: ['k_proj', 'lm_head'], ensure_weight_tying: true };
    const { embedding } = await bind({ tensors: headless({ ...K[0], ...K[1] }), config: untied }, tied);
    assert.equal(embedding, undefined);
    const [first, ...others] = Object.entries(tensors);
    const mixed = {
      ...Object.fromEntries(others),
      [first![0].replace('model.layers', 'model.model.layers')]: first![1],
    };
    await refused({ tensors: mixed }, 'ADAPTER_INVALID', /begin at different modules/);
    const foreign = { tensors, config: { alpha_pattern: { '^model.layers.0.*': 40 } } };
    await refused(foreign, 'ADAPTER_INVALID', /call that module layers\.0/);
    await bind({ tensors: good, config: foreign.config });
  });

  it('knows layers by a pattern that begins with the path', async () => {
    const config = { layers_to_transform: [1], layers_pattern: 'model.layers' };
    const { linears } = await bind({ tensors: pair(Q1, 2, 48, 48), config });
    assert.deepEqual(
      linears.map(({ module }) => module),
      [Q1],
    );
  });

  it('lists every fault of an adapter at once', async () => {
    const { [`base_model.model.${Q0}.lora_A.weight`]: _, ...rest } = good;
    const tensors = { ...rest, 'base_model.model.vision.q_proj.lora_A.weight': numbers([2, 48]), x: numbers([1]) };
    await refused({ tensors }, 'ADAPTER_INVALID', /3 faults: .*vision.*; .*"x".*; .*no lora_A for model\.layers\.0/);
  });

  it('refuses two tensors for one place, and tensors of two adapters', async () => {
    const twice = { ...good, [`${Q0}.lora_A.weight`]: numbers([2, 48]) };
    await refused({ tensors: twice }, 'ADAPTER_INVALID', /same place/);
    let n = 0;
    const mixed = renamed((name) => name.replace('.weight', `.a${++n % 2}.weight`));
    await refused({ tensors: mixed }, 'ADAPTER_INVALID', /belongs to an adapter a/);
  });

  it('refuses tensors that the config does not ask for', async () => {
    const extra = (name: string, shape: number[]) => ({
      tensors: { ...good, [`base_model.model.${name}`]: numbers(shape) },
    });
    for (const [files, message] of [
      [extra('model.layers.0.self_attn.k_proj.lora_A.weight', [2, 48]), /does not target/],
      [extra(`${Q0}.lora_B.bias`, [48]), /lora_bias is false/],
      [extra(`${Q0}.lora_magnitude_vector`, [48]), /use_dora is false/],
      [extra(`${Q0}.base_layer.bias`, [48]), /no bias at/],
      [extra('model.norm.weight', [48]), /modules_to_save does not name/],
      [extra('model.embed_tokens.token_adapter.trainable_tokens_delta', [1, 48]), /trainable_token_indices/],
      [extra('model.embed_tokens.lora_embedding_A', [2, 384]), /does not target/],
      [extra(`${Q0}.lora_embedding_A`, [2, 48]), /not an embedding/],
    ] as const) {
      await refused(files, 'ADAPTER_INVALID', message);
    }
  });

  it('refuses combinations that are not defined, by name', async () => {
    const tensors = good;
    for (const [config, message] of [
      [{ modules_to_save: ['q_proj'] }, /no weight for model\.layers\.0/],
      [{ modules_to_save: ['_proj'] }, /q_proj both in modules_to_save/],
      [{ alora_invocation_tokens: [1], use_dora: true }, /alora_invocation_tokens with use_dora/],
      [{ alora_invocation_tokens: [1000] }, /token 1000/],
      [{ target_modules: ['q_proj', 'norm'] }, /the norm model\.norm/],
      [{ target_modules: ['embed_tokens'], trainable_token_indices: [1] }, /another adaptation/],
      [{ target_modules: '(' }, /regular expression/],
      [{ rank_pattern: { '(q': 2 } }, /rank_pattern: the regular expression/],
      [{ layers_to_transform: [2] }, /names layer 2/],
      [{ trainable_token_indices: { score: [1] } }, /neither the embedding nor the head/],
      [{ trainable_token_indices: [1, 1] }, /twice/],
    ] as const) {
      await assert.rejects(bind({ config, tensors }), message, JSON.stringify(config));
    }
    for (const [config, message] of [
      [{ modules_to_save: ['lm_head'], trainable_token_indices: [1] }, /together with a replaced head/],
      [{ target_modules: ['lm_head'], use_dora: true, trainable_token_indices: [1] }, /together with DoRA on the head/],
    ] as const) {
      await assert.rejects(bind({ config, tensors: {} }, tied), message, JSON.stringify(config));
    }
  });

  it('takes magnitudes that stand twice in the file, as PEFT writes them beside saved tables, if they are equal', async () => {
    const config = { target_modules: ['lm_head'], use_dora: true };
    const name = 'base_model.model.lm_head.lora_magnitude_vector';
    const values = Array.from({ length: 384 }, (_, i) => 1 + i / 384);
    const tensors = { ...pair('lm_head', 2, 48, 384), [name]: { shape: [384], values } };
    const once = await bind({ config, tensors });
    const twice = await bind({ config, tensors: { ...tensors, [`${name}.weight`]: { shape: [384], values } } });
    assert.deepEqual(twice.linears, once.linears);
    const other = { shape: [384], values: values.map((value) => value + 1) };
    await refused({ config, tensors: { ...tensors, [`${name}.weight`]: other } }, 'ADAPTER_INVALID', /must be equal/);
  });

  it('refuses ends of a tied table that differ although ensure_weight_tying is set', async () => {
    const config = { target_modules: ['model.embed_tokens'], ensure_weight_tying: true };
    const { inFeatures: vocab, outFeatures: hidden } = tied.modules.get(tied.embeddingModule)!;
    const [a, b] = [numbers([2, vocab]).values!, numbers([hidden, 2]).values!];
    const turned = (values: readonly number[], rows: number) =>
      values.map((_, at) => values[(at % rows) * (values.length / rows) + Math.floor(at / rows)]!);
    const tensors = {
      'base_model.model.model.embed_tokens.lora_embedding_A': { shape: [2, vocab], values: a },
      'base_model.model.model.embed_tokens.lora_embedding_B': { shape: [hidden, 2], values: b },
      'base_model.model.lm_head.lora_A.weight': { shape: [2, hidden], values: turned(b, hidden) },
      'base_model.model.lm_head.lora_B.weight': { shape: [vocab, 2], values: turned(a, 2) },
    };
    await bind({ config, tensors }, tied);
    const head = 'base_model.model.lm_head.lora_B.weight';
    const other = { ...tensors, [head]: { shape: [vocab, 2], values: tensors[head].values.map((value) => value + 1) } };
    await refused({ config, tensors: other }, 'ADAPTER_INVALID', /low-rank matrices of .* differ/, tied);
    const { [head]: _, ...without } = tensors;
    const why =
      /there is no lora_B for lm_head, the other end of the tied table: with ensure_weight_tying PEFT writes both/;
    await refused({ config, tensors: without }, 'ADAPTER_INVALID', why, tied);
  });

  it('tells a table that is missing only because ensure_weight_tying makes it part of the adapter', async () => {
    const config = { target_modules: ['q_proj'], modules_to_save: ['lm_head'], ensure_weight_tying: true };
    const [vocab, hidden] = [tied.vocabSize, tied.modules.get(tied.headModule)!.inFeatures];
    const saved = { ...good, 'base_model.model.lm_head.weight': numbers([vocab, hidden]) };
    const other =
      /there is no weight for model\.embed_tokens, the other end of the tied table: with ensure_weight_tying/;
    await refused({ config, tensors: saved }, 'ADAPTER_INVALID', other, tied);
    await refused({ config, tensors: good }, 'ADAPTER_INVALID', /there is no weight for lm_head$/m, tied);
  });

  it('compares saved base weights with the served base', async () => {
    const values = Array.from(await base.readWeight('lm_head.weight'));
    const name = 'base_model.model.lm_head.base_layer.weight';
    const config = { target_modules: ['q_proj', 'lm_head'] };
    const head = { ...good, ...pair('lm_head', 2, 48, 384) };
    await bind({ config, tensors: { ...head, [name]: { shape: [384, 48], values } } });
    const other = [...values];
    other[77] = other[77]! + 0.5;
    await refused(
      { config, tensors: { ...head, [name]: { shape: [384, 48], values: other } } },
      'ADAPTER_INVALID',
      /another base/,
    );
    await refused(
      { config, tensors: { ...head, [name]: numbers([400, 48]) } },
      'ADAPTER_INVALID',
      /vocabulary has 400 rows, the base 384, but there is no weight for the new rows of model\.embed_tokens/,
    );
    await refused(
      { tensors: { ...good, 'base_model.model.model.embed_tokens.weight': numbers([400, 48]) } },
      'ADAPTER_INVALID',
      /no weight for the new rows of lm_head/,
    );
    await refused(
      {
        tensors: {
          ...good,
          'base_model.model.model.embed_tokens.weight': numbers([400, 48]),
          'base_model.model.lm_head.weight': numbers([399, 48]),
        },
      },
      'ADAPTER_INVALID',
      /both must have those of one vocabulary/,
    );
  });

  it('takes what PEFT writes twice when both are the same', async () => {
    const config = { modules_to_save: ['norm'] };
    const names = [...base.modules.values()].filter(({ kind }) => kind === 'norm').map(({ name }) => name);
    const norms = Object.fromEntries(names.map((name) => [`base_model.model.${name}.weight`, numbers([48])]));
    const copy = 'base_model.model.model.norm.modules_to_save.weight';
    const same = norms['base_model.model.model.norm.weight']!;
    const bound = await bind({ config, tensors: { ...good, ...norms, [copy]: same } });
    assert.deepEqual(
      bound.norms.get('model.norm'),
      (await bind({ config, tensors: { ...good, ...norms } })).norms.get('model.norm'),
    );
    await refused(
      { config, tensors: { ...good, ...norms, [copy]: { shape: [48], values: new Array<number>(48).fill(9) } } },
      'ADAPTER_INVALID',
      /another tensor for the weight of model\.norm has .*: they must be equal/,
    );
  });

  it('refuses numbers that overflow when they are scaled', async () => {
    const big = { ...good };
    big[`base_model.model.${Q0}.lora_B.weight`] = { shape: [48, 2], values: new Array<number>(96).fill(1e38) };
    await refused({ config: { lora_alpha: 1e5 }, tensors: big }, 'ADAPTER_INVALID', /lora_B times the scaling/);
  });

  it('refuses a number that is not finite in either matrix, and says which', async () => {
    for (const [which, at] of [
      ['lora_A', 5],
      ['lora_B', 17],
    ] as const) {
      const name = `base_model.model.${Q1}.${which}.weight`;
      const values = good[name]!.values.with(at, Number.NEGATIVE_INFINITY);
      const tensors = { ...good, [name]: { ...good[name]!, values } };
      await refused({ tensors }, 'ADAPTER_INVALID', new RegExp(`${which}.*element ${at} is -Infinity`));
      await refused({ tensors, config: { lora_alpha: 0 } }, 'ADAPTER_INVALID', /-Infinity|lora_alpha/);
    }
  });

  it('reads matrices that are larger than what is read at once', async () => {
    const rank = 6000;
    const tensors = { ...pair(Q0, rank, 48, 48), ...pair(Q1, rank, 48, 48, 3) };
    const { linears } = await bind({ config: { r: rank, lora_alpha: 2 * rank }, tensors });
    for (const { module, a, b } of linears) {
      const stored = (which: string) =>
        Float32Array.from(tensors[`base_model.model.${module}.lora_${which}.weight`]!.values);
      assert.deepEqual(a, stored('A'));
      const wrong = stored('B').findIndex((value, i) => b[(i % rank) * 48 + Math.floor(i / rank)] !== 2 * value);
      assert.equal(wrong, -1);
    }
  });

  it('refuses an adapter larger than the whole budget before reading it', async () => {
    const folder = writeAdapter(join(dir, 'large'));
    await assert.rejects(readAdapterFolder(folder, base, { maxBytes: 1000 }), /needs 1536 bytes.*1000 bytes/);
  });

  it('warns of names that match nothing and of another base', async () => {
    const config = {
      target_modules: ['q_proj', 'query'],
      modules_to_save: ['score'],
      base_model_name_or_path: 'org/other-7b',
    };
    const { warnings } = await bind({ config });
    assert.equal(warnings.length, 3, warnings.join('; '));
    assert.match(warnings.join('; '), /"score".*"query".*"org\/other-7b"/);
  });

  it('has a digest that depends on content alone', async () => {
    const digest = async (files: AdapterFiles) => (await bind(files)).digest;
    const own = await digest({});
    assert.equal(
      await digest({ config: { lora_dropout: 0.5, base_model_name_or_path: 'elsewhere', future: null } }),
      own,
    );
    assert.equal(await digest({ tensors: Object.fromEntries(Object.entries(good).reverse()) }), own);
    const others = [
      await digest({ config: { lora_alpha: 5 } }),
      await digest({ config: { use_rslora: true } }),
      await digest({ config: { alpha_pattern: { q_proj: 4 } } }),
      await digest({ tensors: { ...good, ...pair(Q0, 2, 48, 48, 9) } }),
    ];
    assert.equal(new Set([own, ...others]).size, 5);
  });

  it('of changed configs is right or refused, never something else', async () => {
    const folder = join(dir, 'fuzz');
    const change = fc.record({
      key: fc.constantFrom(
        'r',
        'target_modules',
        'rank_pattern',
        'exclude_modules',
        'layers_to_transform',
        'modules_to_save',
        'bias',
        'use_dora',
        'trainable_token_indices',
      ),
      value: fc.oneof(
        fc.jsonValue({ maxDepth: 2 }),
        fc.constantFrom(
          2,
          'q_proj',
          ['q_proj'],
          '.*',
          '.*q_proj',
          { q_proj: 2 },
          [0, 1],
          'all',
          [3],
          'lora_only',
          'all-linear',
        ),
      ),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 3 }), async (changes) => {
        writeAdapter(folder, { config: Object.fromEntries(changes.map(({ key, value }) => [key, value])) });
        try {
          const { linears } = await readAdapterFolder(folder, base);
          assert.deepEqual(
            linears.map(({ module, rank }) => [module, rank]),
            [
              [Q0, 2],
              [Q1, 2],
            ],
          );
        } catch (error) {
          assert.ok(error instanceof AppError, String(error));
        }
      }),
      { numRuns: 300 },
    );
  });
});
