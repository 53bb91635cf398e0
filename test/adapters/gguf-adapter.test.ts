/** Adapters in llama.cpp's GGUF form: PyTorch's logits, on the folder and on the file; all tensors bound or refused. */
import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { validateAdapter } from '../../server/adapters/validate-adapter.js';
import { SUPPORTED_FEATURES } from '../../server/engine/features.js';
import { AppError } from '../../server/errors.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { GOLDEN } from '../engine/golden-model.js';
import { FIXTURES, goldenError, logitsOf } from '../model/gguf-runner.js';
import { f32Tensor, float, type RawTensor, type RawValue, rawGguf, str } from './raw-gguf.js';

const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
after(() => rmSync(dir, { recursive: true }));

const CASES = { llama: ['all-r8', 'embed-head-nobase', 'alora'], qwen2: ['all-r8'], gemma: ['all-r8'] };

for (const [model, names] of Object.entries(CASES)) {
  for (const [kind, path] of [
    ['folder', `${GOLDEN}models/${model}`],
    ['GGUF file', `${FIXTURES}base-${model}.gguf`],
  ] as const) {
    test(`GGUF adapters of ${model} on its ${kind} give PyTorch's logits: ${names.join(', ')}`, async () => {
      const folder = await openModelFolder(path);
      const base = adapterBaseOf(folder);
      const logits = await logitsOf(folder, ['base', 'lora', 'full']);
      for (const name of names) {
        const adapter = await readAdapterFolder(`${FIXTURES}adapter-${model}-${name}.gguf`, base);
        const error = await goldenError(model, name, (ids) => logits(ids, adapter));
        assert.ok(error <= 2e-4, `${name}: logits differ by ${error}`);
      }
      await folder.close();
    });
  }
}

test('PEFT adapters bind to a GGUF base as to the folder', async () => {
  const folder = await openModelFolder(`${FIXTURES}base-gemma.gguf`);
  const base = adapterBaseOf(folder);
  const logits = await logitsOf(folder, ['base', 'lora', 'full']);
  for (const name of ['dora', 'embed-tied', 'all-r8']) {
    const adapter = await readAdapterFolder(`${GOLDEN}adapters/gemma/${name}`, base);
    const error = await goldenError('gemma', name, (ids) => logits(ids, adapter));
    assert.ok(error <= 2e-4, `${name}: logits differ by ${error}`);
  }
  await folder.close();
});

describe('GGUF adapter', async () => {
  const folder = await openModelFolder(`${GOLDEN}models/llama`);
  await folder.close();
  const base = adapterBaseOf(folder);
  const kind = { 'general.type': str('adapter'), 'adapter.type': str('lora'), 'general.architecture': str('llama') };
  const alpha = { 'adapter.lora.alpha': float(4) };
  const pair = (own: string, inFeatures: number, outFeatures: number, rank: number): RawTensor[] => [
    f32Tensor(`${own}.weight.lora_a`, [rank, inFeatures], (i) => i / 64),
    f32Tensor(`${own}.weight.lora_b`, [outFeatures, rank], (i) => i / 32),
  ];
  const write = (tensors: readonly RawTensor[], metadata: Record<string, RawValue> = { ...kind, ...alpha }) => {
    const path = join(dir, 'adapter.gguf');
    writeFileSync(path, rawGguf({ metadata, tensors }));
    return path;
  };

  test('scales by alpha over the rank of each tensor', async () => {
    const path = write([...pair('blk.0.attn_v', 48, 24, 2), ...pair('blk.1.ffn_down', 96, 48, 8)]);
    const { linears } = await readAdapterFolder(path, base);
    assert.deepEqual(
      linears.map(({ module, rank, scaling }) => [module, rank, scaling]),
      [
        ['model.layers.0.self_attn.v_proj', 2, 2],
        ['model.layers.1.mlp.down_proj', 8, 0.5],
      ],
    );
    assert.equal(linears[0]!.b[0 * 24 + 1], (2 / 32) * 2);
  });

  test('does not scale where alpha is missing, whatever the ranks', async () => {
    const path = write([...pair('blk.0.attn_v', 48, 24, 2), ...pair('blk.1.ffn_down', 96, 48, 8)], kind);
    const { linears } = await readAdapterFolder(path, base);
    assert.deepEqual(
      linears.map(({ scaling }) => scaling),
      [1, 1],
    );
  });

  test('is found in a folder of its own', async () => {
    const own = join(dir, 'own');
    mkdirSync(own);
    copyFileSync(`${FIXTURES}adapter-llama-all-r8.gguf`, join(own, 'any-name.gguf'));
    const [one, other] = await Promise.all([
      readAdapterFolder(own, base),
      readAdapterFolder(`${FIXTURES}adapter-llama-all-r8.gguf`, base),
    ]);
    assert.equal(one.digest, other.digest);
    copyFileSync(`${FIXTURES}adapter-llama-alora.gguf`, join(own, 'second.gguf'));
    await assert.rejects(readAdapterFolder(own, base), /several adapters \(any-name.gguf, second.gguf\)/);
  });

  test('is refused where a link leads out of the roots', async () => {
    const inside = join(dir, 'roots');
    mkdirSync(inside);
    symlinkSync(`${FIXTURES}adapter-llama-all-r8.gguf`, join(inside, 'link.gguf'));
    await assert.rejects(readAdapterFolder(inside, base, { roots: [inside] }), { reason: 'ADAPTER_SOURCE_FORBIDDEN' });
  });

  test('is validated tensor by tensor', async () => {
    const path = write([...pair('blk.0.attn_q', 48, 48, 2), f32Tensor('blk.0.attn_norm.weight', [48])]);
    const request = { folder: path, roots: [dir], supportedFeatures: new Set(SUPPORTED_FEATURES) };
    const broken = await validateAdapter(request, base);
    assert.equal(broken.valid, false);
    assert.match(broken.faults.join(), /"blk.0.attn_norm.weight": it is no .lora_a or .lora_b tensor/);
    const whole = await validateAdapter({ ...request, folder: write(pair('blk.0.attn_q', 48, 48, 2)) }, base);
    assert.equal(whole.valid, true);
    assert.deepEqual(
      whole.tensors.map(({ module, use, rank }) => [module, use, rank]),
      [
        ['model.layers.0.self_attn.q_proj', 'lora_A', 2],
        ['model.layers.0.self_attn.q_proj', 'lora_B', 2],
      ],
    );
  });

  const refuse = (what: string, message: RegExp, ...given: Parameters<typeof write>) =>
    test(`refuses ${what}`, () => assert.rejects(async () => readAdapterFolder(write(...given), base), { message }));
  const good = pair('blk.0.attn_q', 48, 48, 2);
  refuse('a model', /general.type is "model"; "adapter" would be right/, good, {
    ...kind,
    'general.type': str('model'),
  });
  refuse('another kind of adapter', /adapter.type is "cvec"/, good, { ...kind, 'adapter.type': str('cvec') });
  refuse('an adapter for another architecture', /for architecture qwen2, the base is of type llama/, good, {
    ...kind,
    'general.architecture': str('qwen2'),
  });
  refuse('an unknown architecture', /architecture "rwkv"; adapters are read for/, good, {
    ...kind,
    'general.architecture': str('rwkv'),
  });
  refuse('a file without tensors', /the file holds no tensors/, []);
  refuse('one matrix without the other', /"blk.0.attn_q.weight.lora_a": its counterpart .lora_b is missing/, [
    good[0]!,
  ]);
  refuse('matrices of two ranks', /rank 2, but .lora_b has rank 3/, [
    good[0]!,
    f32Tensor('blk.0.attn_q.weight.lora_b', [48, 3]),
  ]);
  refuse('another width', /does not fit model.layers.0.self_attn.q_proj/, pair('blk.0.attn_q', 40, 48, 2));
  refuse('broken heads', /its 50 rows are no whole heads of 12/, pair('blk.0.attn_q', 48, 50, 2));
  refuse('a layer that is not there', /the base has no module model.layers.7.self_attn.q_proj/, [
    ...good,
    ...pair('blk.7.attn_q', 48, 48, 2),
  ]);
  refuse('an unknown weight', /there is no weight blk.0.ssm_in.weight/, pair('blk.0.ssm_in', 48, 48, 2));
  refuse('low rank on a norm', /is a norm/, pair('blk.0.attn_norm', 48, 48, 2));
  refuse('NaN', /element 5 is NaN; weights must be finite/, [
    f32Tensor('blk.0.attn_q.weight.lora_a', [2, 48], (i) => (i === 5 ? Number.NaN : 1)),
    good[1]!,
  ]);
  refuse('an infinite alpha', /adapter.lora.alpha is null; a number would be right/, good, {
    ...kind,
    'adapter.lora.alpha': float(Number.POSITIVE_INFINITY),
  });
  refuse('matrices of integers', /stored as I32; F32, F16/, [{ ...good[0]!, type: 26 }, good[1]!]);

  test('any damage is refused, or changes nothing but values', async () => {
    const whole = rawGguf({ metadata: { ...kind, ...alpha }, tensors: good });
    const path = join(dir, 'fuzz.gguf');
    const edits = fc.array(fc.tuple(fc.nat(520), fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        const bytes = Buffer.from(whole);
        for (const [at, value] of changes) bytes[at] = value;
        writeFileSync(path, bytes);
        try {
          const { linears } = await readAdapterFolder(path, base, { maxBytes: 1_000_000 });
          assert.equal(linears.length, 1);
          assert.equal(linears[0]!.a.length, linears[0]!.rank * 48);
        } catch (error) {
          assert.ok(error instanceof AppError, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});
