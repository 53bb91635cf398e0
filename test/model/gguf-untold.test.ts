/** What a GGUF file does not tell, or tells of a model that is not served: taken as llama.cpp has it, or refused by name. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ARCHITECTURES } from '../../server/adapters/gguf/architectures.js';
import { openGguf } from '../../server/adapters/gguf/gguf-file.js';
import type { GgufValue } from '../../server/adapters/gguf/gguf-header.js';
import { configOf } from '../../server/model/gguf/gguf-config.js';
import { openModelFolder } from '../../server/model/model-folder.js';
import { f32Tensor, float, int, type RawTensor, type RawValue, rawGguf, str } from '../adapters/raw-gguf.js';
import { FIXTURES } from './gguf-runner.js';

const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
after(() => rmSync(dir, { recursive: true }));

type Edit = Readonly<Record<string, RawValue | undefined>>;

/** The same kind of value, as the writer takes it; 0 and 1 for a list of booleans. */
function raw(value: GgufValue): RawValue {
  if (typeof value === 'string') return str(value);
  if (typeof value === 'boolean') return { type: 7, value };
  if (typeof value === 'number') return Number.isInteger(value) ? int(value) : float(value);
  const texts = Array.isArray(value);
  return { type: 9, of: texts ? 8 : 5, value: Array.from<string | number>(value) };
}

/** A family's file with other metadata (undefined = without a key) and tensors. */
async function edited(name: string, edit: Edit, change = (all: RawTensor[]): RawTensor[] => all): Promise<string> {
  const file = await openGguf(`${FIXTURES}families/${name}.gguf`);
  const metadata: Record<string, RawValue> = {};
  for (const [key, value] of file.metadata) metadata[key] = raw(value);
  for (const [key, value] of Object.entries(edit)) {
    if (value === undefined) delete metadata[key];
    else metadata[key] = value;
  }
  const tensors: RawTensor[] = [];
  for (const tensor of file.tensors.values()) {
    const type = tensor.type.name === 'F16' ? 1 : 0;
    tensors.push({ name: tensor.name, dims: [...tensor.shape].reverse(), type, data: await file.readRaw(tensor.name) });
  }
  await file.close();
  const path = join(dir, `${name}.gguf`);
  writeFileSync(path, rawGguf({ metadata, tensors: change(tensors) }));
  return path;
}

describe('refuses', () => {
  const refuse = (what: string, message: RegExp, ...given: Parameters<typeof edited>) =>
    test(what, async () => {
      await assert.rejects(openModelFolder(await edited(...given)), { reason: 'MODEL_INVALID', message });
    });
  const pattern = (...value: number[]): RawValue => ({ type: 9, of: 5, value });

  refuse('a model without the epsilon of its norms', /olmo2.attention.layer_norm_rms_epsilon is missing/, 'olmo2', {
    'olmo2.attention.layer_norm_rms_epsilon': undefined,
  });
  refuse('a model without its context', /olmo2.context_length is missing/, 'olmo2', {
    'olmo2.context_length': undefined,
  });
  refuse('a window of no whole number', /olmo2.attention.sliding_window is 7.5; a whole number/, 'olmo2', {
    'olmo2.attention.sliding_window': float(7.5),
  });
  refuse('a scale of nothing', /cohere2.logit_scale is 0; a number above 0 would be right/, 'cohere2', {
    'cohere2.logit_scale': float(0),
  });
  refuse('GPT-NeoX', /architecture "gptneox" is not supported: such files do not say which form of GELU/, 'phi-heads', {
    'general.architecture': str('gptneox'),
  });
  refuse('Phi-3 that may have a window', /phi3.attention.sliding_window is missing; a number would be right/, 'phi3', {
    'phi3.attention.sliding_window': undefined,
  });
  refuse('one half of LongRoPE', /there is no tensor "rope_factors_long.weight"/, 'phi3-longrope', {}, (all) =>
    all.filter(({ name }) => name !== 'rope_factors_long.weight'),
  );
  refuse('LongRoPE of another architecture', /rope_factors_long.weight in a olmo2 model/, 'olmo2', {}, (all) => [
    ...all,
    f32Tensor('rope_factors_long.weight', [4], () => 1),
  ]);
  refuse('a factor of LongRoPE without its table', /rope.scaling.attn_factor 1.5 is not supported/, 'phi3', {
    'phi3.rope.scaling.attn_factor': float(1.5),
  });
  refuse('Granite without its scale', /granite.attention.scale is missing/, 'granite', {
    'granite.attention.scale': undefined,
  });
  refuse('Granite that is not rotated', /granite.rope.scaling.finetuned is false; true would be right/, 'granite', {
    'granite.rope.scaling.finetuned': { type: 7, value: false },
  });
  refuse('Command R without its scale', /command-r.logit_scale is missing/, 'cohere', {
    'command-r.logit_scale': undefined,
  });
  refuse('Command R+', /"blk.0.attn_q_norm.weight" is none of a command-r model/, 'cohere', {}, (all) => [
    ...all,
    f32Tensor('blk.0.attn_q_norm.weight', [4, 8]),
  ]);
  refuse(
    'a pattern for other layers',
    /sliding_window_pattern is \[1,0\]; true or false for each of 4 layers/,
    'cohere2',
    {
      'cohere2.attention.sliding_window_pattern': pattern(1, 0),
    },
  );
  refuse(
    'a second base where the family has one',
    /gemma2.rope.freq_base_swa is 500; 10000 would be right/,
    'gemma2-plain',
    {
      'gemma2.rope.freq_base_swa': float(500),
    },
  );
  refuse('a softcap of nothing', /attn_logit_softcapping is 0; a number above 0/, 'gemma2-plain', {
    'gemma2.attn_logit_softcapping': float(0),
  });
  refuse('positions in three dimensions', /do.* not implement: glm4.rope.dimension_sections/, 'glm4', {
    'glm4.rope.dimension_sections': pattern(2, 1, 1, 0),
  });
  refuse('layers that guess ahead', /glm4.nextn_predict_layers = 1/, 'glm4', { 'glm4.nextn_predict_layers': int(1) });
  refuse(
    'StarCoder with keys for every head',
    /head_count_kv is 4; 1 would be right/,
    'gpt_bigcode',
    { 'starcoder.attention.head_count_kv': int(4) },
    (all) => all.map((one) => (one.name === 'blk.0.attn_qkv.weight' ? f32Tensor(one.name, [96, 32]) : one)),
  );
  refuse('YaRN that is cut short', /yarn_ext_factor is 0.5; 1 would be right/, 'llama-yarn', {
    'llama.rope.scaling.yarn_ext_factor': float(0.5),
  });
  refuse(
    'q twice',
    /"blk.0.attn_qkv.weight" and "blk.0.attn_q.weight" are both model.layers.0.*q_proj/,
    'seed_oss',
    {},
    (all) => [...all, f32Tensor('blk.0.attn_qkv.weight', [128, 32])],
  );
  refuse('rotated parts where heads are rotated whole', /rope.dimension_count is 4 where heads have 8/, 'olmo2', {
    'olmo2.rope.dimension_count': int(4),
  });
});

describe('takes', () => {
  test('StarCoder2 up to the window that no file has, unless one has it', async () => {
    const context = { 'starcoder2.context_length': int(16_384) };
    for (const [extra, length, window] of [
      [{}, 4096, undefined],
      [{ 'starcoder2.attention.sliding_window': int(9) }, 16_384, 9],
    ] as const) {
      const { spec, close } = await openModelFolder(await edited('starcoder2', { ...context, ...extra }));
      await close();
      assert.deepEqual([spec.contextLength, spec.layers[0]!.attention.window], [length, window]);
    }
  });

  test("Gemma's scale from the head, but from the hidden size where it has the layers of the largest", async () => {
    for (const [layers, scalar] of [
      [61, 8],
      [62, 16],
    ] as const) {
      const file = await openGguf(
        await edited('gemma3-deep', { 'gemma3.block_count': int(layers), 'gemma3.embedding_length': int(64) }),
      );
      await file.close();
      assert.equal(configOf(file, ARCHITECTURES.get('gemma3')!).query_pre_attn_scalar, scalar);
    }
  });

  test('a pattern of windows as a list, as a number, and the architecture’s own', async () => {
    const windows = async (value: RawValue | undefined) => {
      const folder = await openModelFolder(
        await edited('gemma3-deep', { 'gemma3.attention.sliding_window_pattern': value }),
      );
      await folder.close();
      return folder.spec.layers.map(({ attention }) => attention.window ?? 0);
    };
    assert.deepEqual(await windows(undefined), [6, 6, 6, 6, 6, 0]);
    assert.deepEqual(await windows(int(2)), [6, 0, 6, 0, 6, 0]);
    assert.deepEqual(await windows({ type: 9, of: 5, value: [0, 0, 1, 1, 0, 0] }), [0, 0, 6, 6, 0, 0]);
  });

  test('Gemma 3 without a window', async () => {
    const folder = await openModelFolder(await edited('gemma3-deep', { 'gemma3.attention.sliding_window': int(0) }));
    await folder.close();
    assert.deepEqual(
      folder.spec.layers.map(({ attention }) => [attention.window, attention.rope]),
      folder.spec.layers.map(() => [undefined, 0]),
    );
  });
});
