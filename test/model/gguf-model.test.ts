/** Base models in GGUF files: the same numbers and ids as the Hugging Face folders that they were made from. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { openGguf } from '../../server/adapters/gguf/gguf-file.js';
import { AppError } from '../../server/errors.js';
import { fingerprintOf } from '../../server/model/fingerprint.js';
import { type ModelFolder, openModelFolder } from '../../server/model/model-folder.js';
import { quantise } from '../../server/model/quantise.js';
import { allLinears } from '../../server/model/spec.js';
import { makeTokenizer } from '../../server/text/hf-tokenizer.js';
import { f32Tensor, float, int, type RawTensor, type RawValue, rawGguf, str } from '../adapters/raw-gguf.js';
import { GOLDEN } from '../engine/golden-model.js';
import { FIXTURES, goldenError, largestDifference, logitsOf } from './gguf-runner.js';

const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
after(() => rmSync(dir, { recursive: true }));

for (const name of ['llama', 'llama-rope3', 'qwen2', 'qwen3', 'gemma']) {
  describe(`golden ${name} as GGUF`, () => {
    test('logits equal PyTorch', async () => {
      const folder = await openModelFolder(`${FIXTURES}base-${name}.gguf`);
      const error = await goldenError(name, null, await logitsOf(folder));
      await folder.close();
      assert.ok(error <= 2e-4, `logits differ by ${error}`);
    });

    test('describes itself as the folder does', async () => {
      const [file, folder] = [
        await openModelFolder(`${FIXTURES}base-${name}.gguf`),
        await openModelFolder(`${GOLDEN}models/${name}`),
      ];
      const shape = ({ spec }: typeof file) => ({
        ...spec,
        ropes: undefined,
        layers: undefined,
        finalNorm: undefined,
        linears: allLinears(spec).map(({ module, inFeatures, outFeatures, bias }) => [
          module,
          inFeatures,
          outFeatures,
          bias,
        ]),
      });
      assert.deepEqual(shape(file), shape(folder));
      assert.equal(file.nameOrPath, `golden-${name}`);
      assert.deepEqual(file.eosIds.slice(0, 1), folder.eosIds.slice(0, 1));
      for (const { weight } of allLinears(file.spec)) {
        const values = await file.checkpoint.readFloat32(weight);
        assert.equal(largestDifference(values, await folder.checkpoint.readFloat32(weight)), 0, weight);
      }
      await Promise.all([file.close(), folder.close()]);
    });
  });
}

describe('Q8_0', () => {
  for (const [name, all] of Object.entries({ q8: 15, 'q8-phi-heads': 11, 'q8-gpt2-scale': 7 })) {
    test(`blocks of ${name} are taken over as they are, every row in its place`, async () => {
      const folder = await openModelFolder(`${FIXTURES}${name}.gguf`);
      const { checkpoint } = folder;
      let taken = 0;
      for (const { weight, inFeatures, outFeatures, conv1d = false } of allLinears(folder.spec)) {
        // Rows that are no whole blocks are stored as floats.
        if ((await checkpoint.readBlocks?.(weight)) === undefined) continue;
        taken += 1;
        const input = {
          tensor: weight,
          inFeatures,
          outFeatures,
          transposed: conv1d,
          read: () => Promise.reject(new Error('read as floats')),
          readBlocks: async () => checkpoint.readBlocks?.(weight),
        };
        const store = await quantise([input]);
        const { weights, scales } = store.entry(weight);
        const factors = new Float32Array(store.bytes.buffer, scales.offset, scales.length / 4);
        const values = await checkpoint.readFloat32(weight);
        for (let i = 0; i < values.length; i += 1) {
          const value = Math.fround((store.bytes[weights.offset + i]! - 128) * factors[i >> 5]!);
          const at = conv1d ? (i % inFeatures) * outFeatures + Math.floor(i / inFeatures) : i;
          assert.equal(value, values[at], `${weight}[${i}]`);
        }
      }
      assert.equal(taken, all);
      await folder.close();
    });
  }

  test('int8 logits differ from exact ones only by the rounding of activations', async () => {
    const folder = await openModelFolder(`${FIXTURES}q8.gguf`);
    const ids = [3, 70, 11, 42, 5, 5, 60];
    const exact = await (await logitsOf(folder))(ids);
    const int8 = await (await logitsOf(folder, ['base'], 'int8'))(ids);
    await folder.close();
    const largest = exact.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const difference = largestDifference(exact, int8);
    assert.ok(difference > 0 && difference < 0.03 * largest, `${difference} of ${largest}`);
  });
});

test('the fingerprint covers metadata', async () => {
  const bytes = readFileSync(`${FIXTURES}q8.gguf`);
  const at = bytes.indexOf('llama.context_length') + 'llama.context_length'.length + 4;
  assert.equal(bytes.readUInt32LE(at), 64);
  const prints: string[] = [];
  for (const length of [64, 128]) {
    bytes.writeUInt32LE(length, at);
    const path = join(dir, 'print.gguf');
    writeFileSync(path, bytes);
    const folder = await openModelFolder(path);
    prints.push(await fingerprintOf(folder));
    await folder.close();
  }
  assert.notEqual(prints[0], prints[1]);
});

describe('refuses', () => {
  const metadata: Record<string, RawValue> = {
    'general.architecture': str('llama'),
    'llama.block_count': int(1),
    'llama.context_length': int(16),
    'llama.embedding_length': int(8),
    'llama.feed_forward_length': int(8),
    'llama.attention.head_count': int(2),
    'llama.attention.layer_norm_rms_epsilon': float(1e-5),
    'tokenizer.ggml.tokens': { type: 9, of: 8, value: ['a', 'b', 'c', 'd'] },
  };
  const square = ['attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_gate', 'ffn_up', 'ffn_down'];
  const tensors: RawTensor[] = [
    f32Tensor('token_embd.weight', [4, 8]),
    ...square.map((name) => f32Tensor(`blk.0.${name}.weight`, [8, 8])),
    ...['blk.0.attn_norm', 'blk.0.ffn_norm', 'output_norm'].map((name) => f32Tensor(`${name}.weight`, [8])),
  ];
  const openWith = async (
    extra: Record<string, RawValue>,
    change: (all: RawTensor[]) => RawTensor[] = (all) => all,
  ) => {
    const path = join(dir, 'model.gguf');
    writeFileSync(path, rawGguf({ metadata: { ...metadata, ...extra }, tensors: change(tensors) }));
    const folder = await openModelFolder(path);
    await folder.close();
    return folder;
  };
  const refuse = (what: string, message: RegExp, ...given: Parameters<typeof openWith>) =>
    test(what, () => assert.rejects(openWith(...given), { reason: 'MODEL_INVALID', message }));

  test('nothing that is whole', async () => assert.equal((await openWith({})).spec.layers.length, 1));
  refuse('another architecture', /architecture "mamba" is not supported; supported: llama/, {
    'general.architecture': str('mamba'),
  });
  refuse('an adapter', /general.type is "adapter"; "model" would be right/, { 'general.type': str('adapter') });
  refuse('a part of a split file', /one of 3 parts/, { 'split.count': int(3) });
  refuse('experts', /llama.expert_count = 8/, { 'llama.expert_count': int(8) });
  refuse('an unknown rope scaling', /rope.scaling.type "longrope" is not supported/, {
    'llama.rope.scaling.type': str('longrope'),
  });
  refuse('partial rotation', /rope.dimension_count is 2 where heads have 4/, { 'llama.rope.dimension_count': int(2) });
  refuse('a size that is no number', /intermediate_size "8" cannot be used/, { 'llama.feed_forward_length': str('8') });
  refuse('more layers than tensors', /4000000000 layers, but only 11 tensors/, { 'llama.block_count': int(4e9) });
  refuse('heads that the weights do not have', /attn_q.weight has 8 rows, the heads make it/, {
    'llama.attention.key_length': int(4e9),
  });
  refuse('a missing tensor', /model.gguf: the file holds no tensor for model.layers.0.mlp.up_proj.weight/, {}, (all) =>
    all.filter(({ name }) => !name.includes('ffn_up')),
  );
  refuse('another shape', /"blk.0.ffn_up.weight" has shape \[4,8\], the metadata make it \[8,8\]/, {}, (all) =>
    all.map((one) => (one.name.includes('ffn_up') ? f32Tensor(one.name, [4, 8]) : one)),
  );
  refuse('a tensor of no use', /no use for: model.layers.0.self_attn.q_norm.weight/, {}, (all) => [
    ...all,
    f32Tensor('blk.0.attn_q_norm.weight', [4]),
  ]);
  refuse('an unknown tensor', /tensor "blk.0.ssm_a.weight" is none of a llama model/, {}, (all) => [
    ...all,
    f32Tensor('blk.0.ssm_a.weight', [4]),
  ]);
  refuse('a type that is not read', /is stored as I32; F32, F16/, {}, (all) =>
    all.map((one) => (one.name === 'output_norm.weight' ? { ...one, type: 26 } : one)),
  );
  refuse('more tokens than rows', /5 tokens, but token_embd.weight has 4 rows/, {
    'tokenizer.ggml.tokens': { type: 9, of: 8, value: ['a', 'b', 'c', 'd', 'e'] },
  });
  refuse('an end of sequence outside the vocabulary', /eos_token_id is 9; the vocabulary has 4/, {
    'tokenizer.ggml.eos_token_id': int(9),
  });
  refuse('rope factors of another length', /rope_freqs.weight must hold 2 positive numbers/, {}, (all) => [
    ...all,
    f32Tensor('rope_freqs.weight', [8], () => 1),
  ]);

  test('weights that are not finite, when they are read', async () => {
    const path = join(dir, 'nan.gguf');
    const broken = tensors.map((one) =>
      one.name === 'blk.0.ffn_up.weight' ? f32Tensor(one.name, [8, 8], (i) => (i === 9 ? Number.NaN : 0)) : one,
    );
    writeFileSync(path, rawGguf({ metadata, tensors: broken }));
    const folder = await openModelFolder(path);
    await assert.rejects(logitsOf(folder), /nan.gguf: tensor "blk.0.ffn_up.weight": element 9 is NaN/);
    await folder.close();
  });

  test('any damage to a header, or it still describes a whole model', async () => {
    const path = join(dir, 'fuzz.gguf');
    for (const name of ['q8', 'base-gemma']) {
      const whole = readFileSync(`${FIXTURES}${name}.gguf`);
      const header = (await openGguf(`${FIXTURES}${name}.gguf`).then(async (file) => {
        await file.close();
        return Math.min(...Array.from(file.tensors.values(), ({ offset }) => offset));
      })) as number;
      const edits = fc.array(fc.tuple(fc.nat(header - 1), fc.nat(255)), { minLength: 1, maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(edits, async (changes) => {
          const bytes = Buffer.from(whole);
          for (const [at, value] of changes) bytes[at] = value;
          writeFileSync(path, bytes);
          let folder: ModelFolder | undefined;
          try {
            folder = await openModelFolder(path);
            const { tokenizer, config } = folder.tokenizerFiles!();
            makeTokenizer(tokenizer, config).encode('a text', true);
            for (const { weight } of allLinears(folder.spec)) folder.checkpoint.has(weight);
          } catch (error) {
            assert.ok(error instanceof AppError, (error as Error).stack);
          } finally {
            await folder?.close();
          }
        }),
        { numRuns: 250 },
      );
    }
  });

  test('a file with a broken header, closing it', async () => {
    const path = join(dir, 'cut.gguf');
    writeFileSync(path, readFileSync(`${FIXTURES}q8.gguf`).subarray(0, 50_000));
    await assert.rejects(openModelFolder(path), /cut.gguf: tensor .* the file has 50000/);
    await assert.rejects(openGguf(path));
  });
});
