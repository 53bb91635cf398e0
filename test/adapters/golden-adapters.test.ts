import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import type { AdapterBase, BoundAdapter, BoundLinear } from '../../server/adapters/types.js';
import { GOLDEN, GOLDEN_MODELS, goldenAdapters, goldenBase } from './golden-base.js';
import { type RawTensor, readRawFile } from './raw-safetensors.js';

/** Features and the distinct rank/scaling pairs by adapter, worked out by hand from the configs. */
const EXPECTED: Readonly<Record<string, readonly [features: string, pairs: string]>> = {
  'llama/qv-r4': ['lora', '4*2'],
  'llama/mlp-r16': ['lora', '16*0.5'],
  'llama/rslora': ['lora rslora', '8*1.4142'],
  'llama/patterns-rslora': ['alpha_pattern lora rank_pattern rslora', '3*3.4641 8*0.7071 8*2.1213'],
  'llama/dora': ['dora lora', '4*2'],
  'llama/lm-head': ['lm_head lora', '4*2'],
  'llama/embed': ['embedding_lora lora', '4*2'],
  'llama/embed-head-nobase': ['embedding_lora lm_head lora', '6*1.5'],
  'llama/save-lmhead': ['lm_head lora replaced_linear', '4*2'],
  'llama/save-embed-norm': ['lora replaced_embedding replaced_norm', '4*2'],
  'llama/lora-bias': ['lora lora_bias', '4*2'],
  'llama/tokens': ['lora trained_tokens', '4*2'],
  'llama/alora': ['alora lora', '4*2'],
  'llama-rope3/tokens-tied': ['lora trained_head_rows trained_tokens', '4*2'],
  'llama-rope3/patterns': ['alpha_pattern lora rank_pattern', '4*0.5 4*2 7*0.2857 7*1.1429'],
  'qwen2/bias-lora-only': ['bias lora', '4*2'],
  'qwen2/bias-all': ['bias lora', '4*2'],
  'qwen2/save-lmhead-tied': ['lm_head lora replaced_linear', '4*2'],
  'qwen3/patterns': ['alpha_pattern lora rank_pattern', '2*4 2*4.5 4*0.5 4*2'],
  'qwen3/lm-head-r1': ['lm_head lora', '1*3'],
  'gemma/embed-tied': ['embedding_lora lora', ''],
  'gpt2/dora': ['dora lora', '4*2'],
  'gpt2/lora-bias': ['lora lora_bias', '4*3'],
  'gpt2/wte-tied': ['embedding_lora lora', '4*2'],
};

/** Module -> rank and alpha of llama/patterns, by hand: the first key of each pattern that matches. */
const PATTERNS: readonly (readonly [string, number, number])[] = [
  ['model.layers.0.self_attn.q_proj', 2, 8],
  ['model.layers.0.self_attn.k_proj', 4, 1],
  ['model.layers.1.self_attn.k_proj', 4, 12],
  ['model.layers.0.self_attn.v_proj', 5, 8],
  ['model.layers.1.self_attn.v_proj', 6, 8],
  ['model.layers.0.mlp.gate_proj', 3, 8],
  ['model.layers.1.mlp.gate_proj', 4, 8],
  ['model.layers.0.mlp.up_proj', 3, 3],
  ['model.layers.1.mlp.up_proj', 4, 3],
  ['model.layers.1.mlp.down_proj', 4, 20],
];

interface Loaded {
  readonly base: AdapterBase;
  readonly adapter: BoundAdapter;
  readonly raw: ReadonlyMap<string, RawTensor>;
}

async function load(model: string, name: string): Promise<Loaded> {
  const base = await goldenBase(model);
  const folder = `${GOLDEN}${goldenAdapters(model)[name]!.path}`;
  const adapter = await readAdapterFolder(folder, base);
  return { base, adapter, raw: readRawFile(`${folder}/adapter_model.safetensors`) };
}

/** A tensor of the file by the end of its name. */
function raw(loaded: Loaded, ending: string): readonly number[] | undefined {
  for (const [name, { values }] of loaded.raw) {
    if (name.replace('.default', '').endsWith(ending)) return values;
  }
  return undefined;
}

/** y of one adapted linear by PEFT's formulas, in float64, straight from the file. */
async function referenceOutput(loaded: Loaded, linear: BoundLinear, x: readonly number[]): Promise<number[]> {
  const { base } = loaded;
  const { name, inFeatures, outFeatures, conv1d, hasBias } = base.modules.get(linear.module)!;
  const stored = await base.readWeight(
    base.tiedHead && name === 'lm_head' ? `${base.embeddingModule}.weight` : `${name}.weight`,
  );
  const whole = raw(loaded, `${name}.weight`);
  const weight = (o: number, i: number) => (whole ?? stored)[conv1d ? i * outFeatures + o : o * inFeatures + i]!;
  const a = raw(loaded, `${name}.lora_A.weight`) ?? [];
  const b = raw(loaded, `${name}.lora_B.weight`) ?? [];
  const extra = raw(loaded, `${name}.lora_B.bias`);
  const magnitude = raw(loaded, `${name}.lora_magnitude_vector`);
  const bias =
    raw(loaded, `${name}.base_layer.bias`) ??
    raw(loaded, `${name}.bias`) ??
    (hasBias ? await base.readWeight(`${name}.bias`) : undefined);
  const rank = a.length / inFeatures;
  return Array.from({ length: outFeatures }, (_, o) => {
    let sum = 0;
    let norm = 0;
    for (let i = 0; i < inFeatures; i += 1) {
      let delta = 0;
      for (let r = 0; r < rank; r += 1) delta += b[o * rank + r]! * a[r * inFeatures + i]!;
      const adapted = weight(o, i) + linear.scaling * delta;
      sum += adapted * x[i]!;
      norm += adapted * adapted;
    }
    if (magnitude !== undefined) sum *= magnitude[o]! / Math.sqrt(norm);
    return sum + (bias?.[o] ?? 0) + linear.scaling * (extra?.[o] ?? 0);
  });
}

/** y of the same linear from what was bound: gain * (xW + xAB) + bias + biasDelta. */
async function boundOutput(loaded: Loaded, linear: BoundLinear, x: readonly number[]): Promise<number[]> {
  const { base } = loaded;
  const { name, inFeatures, outFeatures, conv1d, hasBias } = base.modules.get(linear.module)!;
  const stored = await base.readWeight(
    base.tiedHead && name === 'lm_head' ? `${base.embeddingModule}.weight` : `${name}.weight`,
  );
  const bias = hasBias ? await base.readWeight(`${name}.bias`) : undefined;
  const hidden = Array.from({ length: linear.rank }, (_, r) =>
    x.reduce((sum, value, i) => sum + value * linear.a[r * inFeatures + i]!, 0),
  );
  return Array.from({ length: outFeatures }, (_, o) => {
    let sum = 0;
    for (let i = 0; i < inFeatures; i += 1) {
      const own = linear.replaced?.[o * inFeatures + i] ?? stored[conv1d ? i * outFeatures + o : o * inFeatures + i]!;
      sum += own * x[i]!;
    }
    for (let r = 0; r < linear.rank; r += 1) sum += hidden[r]! * linear.b[r * outFeatures + o]!;
    return (linear.gain?.[o] ?? 1) * sum + (bias?.[o] ?? 0) + (linear.biasDelta?.[o] ?? 0);
  });
}

describe('golden adapters', () => {
  for (const model of GOLDEN_MODELS) {
    it(`of ${model} all bind, with every linear giving what PEFT's formulas give`, async () => {
      for (const name of Object.keys(goldenAdapters(model))) {
        const loaded = await load(model, name);
        const { adapter } = loaded;
        assert.match(adapter.digest, /^[0-9a-f]{64}$/);
        const expected = EXPECTED[`${model}/${name}`];
        const pairs = new Set(
          adapter.linears
            .filter(({ rank }) => rank > 0)
            .map(({ rank, scaling }) => `${rank}*${Number(scaling.toFixed(4))}`),
        );
        if (expected !== undefined) {
          assert.equal(adapter.features.join(' '), expected[0], name);
          assert.equal([...pairs].sort().join(' '), expected[1], name);
        }
        for (const linear of adapter.linears) {
          const { inFeatures } = loaded.base.modules.get(linear.module)!;
          const x = Array.from({ length: inFeatures }, (_, i) => Math.sin(i * 1.7 + 0.3));
          const expectedY = await referenceOutput(loaded, linear, x);
          const y = await boundOutput(loaded, linear, x);
          for (const [o, value] of y.entries()) {
            assert.ok(
              Math.abs(value - expectedY[o]!) < 1e-4,
              `${name} ${linear.module}[${o}]: ${value} ${expectedY[o]}`,
            );
          }
        }
      }
    });
  }

  it('take rank and alpha from the first pattern that matches', async () => {
    const { adapter } = await load('llama', 'patterns');
    for (const [module, rank, alpha] of PATTERNS) {
      const linear = adapter.linears.find((one) => one.module === module);
      assert.deepEqual([linear?.rank, linear?.scaling], [rank, alpha / rank], module);
    }
  });

  it('adapt the modules that the config selects, and no others', async () => {
    for (const [name, modules] of [
      ['layer1', 'q_proj k_proj v_proj o_proj'.split(' ').map((one) => `model.layers.1.self_attn.${one}`)],
      ['layer0-int', 'gate_proj up_proj down_proj'.split(' ').map((one) => `model.layers.0.mlp.${one}`)],
      ['exclude-regex', 'q_proj k_proj v_proj o_proj'.split(' ').map((one) => `model.layers.1.self_attn.${one}`)],
      [
        'suffix-targets',
        ['model.layers.0.self_attn.q_proj', 'model.layers.0.mlp.down_proj', 'model.layers.1.mlp.down_proj'],
      ],
    ] as const) {
      const { adapter } = await load('llama', name);
      assert.deepEqual(
        adapter.linears.map(({ module }) => module),
        modules,
        name,
      );
    }
    const all = await load('llama', 'all-linear-literal');
    assert.equal(all.adapter.linears.length, 14);
  });

  it('on an embedding give contiguous rows, scaled on the B side', async () => {
    for (const [model, name, module] of [
      ['llama', 'embed', 'embed_tokens'],
      ['gemma', 'embed-tied', 'embed_tokens'],
      ['gpt2', 'wte-tied', 'wte'],
    ] as const) {
      const loaded = await load(model, name);
      const { rank, scaling, a, b } = loaded.adapter.embedding!.lora!;
      const fileA = raw(loaded, `${module}.lora_embedding_A`)!; // [rank, vocab]
      const fileB = raw(loaded, `${module}.lora_embedding_B`)!; // [hidden, rank]
      const { inFeatures: vocab, outFeatures: hidden } = loaded.base.modules.get(loaded.base.embeddingModule)!;
      for (const id of [0, 5, vocab - 1]) {
        for (let h = 0; h < hidden; h += 1) {
          let bound = 0;
          let expected = 0;
          for (let r = 0; r < rank; r += 1) {
            bound += a[id * rank + r]! * b[r * hidden + h]!;
            expected += scaling * fileA[r * vocab + id]! * fileB[h * rank + r]!;
          }
          assert.ok(Math.abs(bound - expected) < 1e-5);
        }
      }
    }
  });

  it('with trained tokens replace whole rows, on a tied model those of the head too', async () => {
    for (const [model, name, tied] of [
      ['llama', 'tokens', false],
      ['llama-rope3', 'tokens-tied', true],
    ] as const) {
      const loaded = await load(model, name);
      const delta = raw(loaded, 'trainable_tokens_delta')!;
      const rows = loaded.adapter.embedding!.rows!;
      assert.deepEqual([...rows.keys()], [72, 220, 295, 298]);
      const hidden = delta.length / 4;
      assert.deepEqual(Array.from(rows.get(295)!), delta.slice(2 * hidden, 3 * hidden));
      assert.equal(loaded.adapter.headRows !== undefined, tied);
      if (tied) {
        assert.deepEqual(loaded.adapter.headRows, rows);
        assert.notEqual(loaded.adapter.headRows!.get(72)!.buffer, rows.get(72)!.buffer);
      }
    }
  });

  it('that save embedding and norms replace every norm whose name ends so', async () => {
    const loaded = await load('llama', 'save-embed-norm');
    assert.equal(loaded.adapter.norms.size, 5);
    assert.deepEqual(
      Array.from(loaded.adapter.norms.get('model.layers.1.input_layernorm')!),
      raw(loaded, 'layers.1.input_layernorm.weight'),
    );
    assert.deepEqual(Array.from(loaded.adapter.embedding!.replaced!), raw(loaded, 'embed_tokens.weight'));
  });

  it('activated by tokens carry them', async () => {
    const { adapter } = await load('llama', 'alora');
    assert.deepEqual(adapter.invocationTokens, [380, 277, 82, 72, 82, 83, 287, 83]);
  });

  it('with equal numbers under other tensor names bind to equal arrays', async () => {
    for (const [name, { same_as: same }] of Object.entries(goldenAdapters('llama'))) {
      if (!same) continue;
      const one = (await load('llama', name)).adapter;
      const other = (await load('llama', same)).adapter;
      assert.deepEqual(one.linears, other.linears, `${name} and ${same}`);
    }
  });

  it('count the bytes of their arrays', async () => {
    const { adapter } = await load('llama', 'qv-r4');
    const sum = adapter.linears.reduce((bytes, { a, b }) => bytes + a.byteLength + b.byteLength, 0);
    assert.equal(adapter.bytes, sum);
  });
});

interface InvalidCase {
  readonly case: string;
  readonly path: string;
}

/** What each refusal must be and name; the others are ADAPTER_INVALID and name the file. */
const REFUSALS: Readonly<Record<string, readonly [reason: string, message: RegExp]>> = {
  'shape-lora-a': ['ADAPTER_INVALID', /q_proj\.lora_A\.weight": shape \[4, 24\].*\[4, 48\]/],
  'shape-lora-b': ['ADAPTER_INVALID', /v_proj\.lora_B\.weight": shape \[48, 4\].*\[24, 4\]/],
  'r-negative': ['ADAPTER_INVALID', /r is -4/],
  'r-disagrees': ['ADAPTER_INVALID', /rank 5 by the config/],
  'rank-pattern-disagrees': ['ADAPTER_INVALID', /rank 3 by the config/],
  'missing-lora-b': ['ADAPTER_INVALID', /no lora_B for model\.layers\.\d\.self_attn\.q_proj/],
  'missing-module': ['ADAPTER_INVALID', /no lora_A for model\.layers\.1\.self_attn\.q_proj/],
  'layer-out-of-range': ['ADAPTER_INVALID', /layer 17 does not exist/],
  'leftover-tensor': ['ADAPTER_INVALID', /leftover\.weight/],
  'target-absent': ['ADAPTER_INVALID', /query_key_value/],
  'target-partly-absent': ['ADAPTER_INVALID', /qkv_proj/],
  'config-missing': ['ADAPTER_SOURCE_INVALID', /adapter_config\.json/],
  'config-invalid-json': ['ADAPTER_INVALID', /not valid JSON/],
  'config-not-an-object': ['ADAPTER_INVALID', /not a JSON object/],
  'weights-missing': ['ADAPTER_INVALID', /adapter_model\.safetensors: the file is missing/],
  'weights-empty': ['ADAPTER_INVALID', /empty/],
  'weights-truncated': ['ADAPTER_INVALID', /cut off/],
  'header-length-huge': ['ADAPTER_INVALID', /1099511627776/],
  'header-not-json': ['ADAPTER_INVALID', /not a JSON object/],
  'offsets-overlap': ['ADAPTER_INVALID', /share bytes/],
  'offsets-out-of-file': ['ADAPTER_INVALID', /end at 16128/],
  'shape-disagrees-with-bytes': ['ADAPTER_INVALID', /needs 1536 bytes/],
  'nan-weights': ['ADAPTER_INVALID', /element 48 is NaN/],
  'inf-weights': ['ADAPTER_INVALID', /element 96 is Infinity/],
  'integer-weights': ['ADAPTER_INVALID', /stored as I32/],
  'pickle-only': ['ADAPTER_INVALID', /adapter_model\.bin, a pickle/],
  'unknown-peft-type': ['ADAPTER_UNSUPPORTED', /SUPERLORA/],
  'dora-without-magnitude': ['ADAPTER_INVALID', /no lora_magnitude_vector/],
  'magnitude-without-dora': ['ADAPTER_INVALID', /use_dora is false/],
  'modules-to-save-missing': ['ADAPTER_INVALID', /no weight for lm_head/],
  'symlink-weights-outside': ['ADAPTER_INVALID', /adapter_model\.safetensors/],
  'symlink-config-outside': ['ADAPTER_INVALID', /adapter_config\.json/],
  'pissa-init': ['ADAPTER_UNSUPPORTED', /init_lora_weights is "pissa"/],
  'layer-replication': ['ADAPTER_UNSUPPORTED', /layer_replication/],
  'layer-replication-hidden': ['ADAPTER_UNSUPPORTED', /layer_replication/],
  'r-not-a-number': ['ADAPTER_INVALID', /r is "8 or so"/],
  'alpha-nan': ['ADAPTER_INVALID', /not valid JSON/],
  'layers-to-transform-out-of-range': ['ADAPTER_INVALID', /names layer 7/],
  'token-index-out-of-range': ['ADAPTER_INVALID', /row 99999/],
  'duplicate-header-key': ['ADAPTER_INVALID', /stands twice/],
  'data-hole': ['ADAPTER_INVALID', /64 bytes between/],
  ia3: ['ADAPTER_UNSUPPORTED', /IA3/],
  'prefix-tuning': ['ADAPTER_UNSUPPORTED', /PREFIX_TUNING/],
  'use-qalora': ['ADAPTER_UNSUPPORTED', /use_qalora/],
  'arrow-config': ['ADAPTER_UNSUPPORTED', /arrow_config/],
  'target-parameters': ['ADAPTER_UNSUPPORTED', /target_parameters/],
  'zip-slip': ['ADAPTER_SOURCE_INVALID', /adapter_config\.json/],
  'index-path-traversal': ['ADAPTER_INVALID', /\.\.\/\.\.\/outside/],
};

describe('broken and hostile adapters', () => {
  const root = `${GOLDEN}invalid/adapters`;
  const index = `${GOLDEN}invalid/index.json`;
  const cases = existsSync(index) ? (JSON.parse(readFileSync(index, 'utf8')) as { cases: InvalidCase[] }).cases : [];
  for (const { case: name, path } of cases) {
    it(`${name} is refused`, async () => {
      const expected = REFUSALS[name] ?? ['ADAPTER_INVALID', /adapter_/];
      const base = await goldenBase('llama');
      await assert.rejects(readAdapterFolder(`${GOLDEN}invalid/${path}`, base, { roots: [root] }), (error: Error) => {
        const reason = (error as Error & { reason?: string }).reason;
        // Where links survived the way here, they are refused as links, before they are read.
        if (name.startsWith('symlink') && reason === 'ADAPTER_SOURCE_FORBIDDEN') return true;
        assert.equal(reason, expected[0], error.message);
        assert.match(error.message, expected[1]);
        return true;
      });
    });
  }
});
