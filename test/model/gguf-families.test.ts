/**
 * The families in GGUF files, made by llama.cpp's converter (tools/fixtures/gguf/make_families.py) of the folders in
 * test/fixtures/families: the same description, the same weights, PyTorch's logits, with PEFT's adapters as well.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ARCHITECTURES } from '../../server/adapters/gguf/architectures.js';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { type ModelFolder, openModelFolder } from '../../server/model/model-folder.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { allLinears, allNorms } from '../../server/model/spec.js';
import { f32Tensor, rawGguf, str } from '../adapters/raw-gguf.js';
import { GOLDEN } from '../engine/golden-model.js';
import { FAMILY_FIXTURES, openFamily, TOLERANCE } from './family-fixture.js';
import { FIXTURES, goldenError, largestDifference, logitsOf } from './gguf-runner.js';

const DIR = `${FIXTURES}families/`;
const NAMES = readdirSync(DIR).map((file) => file.replace(/\.gguf$/, ''));

/** Families with an adapter in GGUF form. */
const ADAPTED = FAMILY_FIXTURES.filter((name) => existsSync(`${FIXTURES}adapter-${name}-all.gguf`));

/** What a file does not tell, and the prompts for which it makes no difference. */
const WINDOW_UNTOLD: Readonly<Record<string, readonly string[]>> = { starcoder2: ['short'] };

const read = new Set<string>();
after(() => {
  // The tests of the golden models have the first four.
  const all = [...ARCHITECTURES.keys()].filter((name) => !['llama', 'qwen2', 'qwen3', 'gemma'].includes(name));
  assert.deepEqual([...read].sort(), ['llama', ...all].sort());
});

for (const name of NAMES) {
  describe(`${name} as GGUF`, async () => {
    const isGolden = name === 'gpt2';
    const file = await openModelFolder(`${DIR}${name}.gguf`);
    after(() => file.close());
    for (const one of ARCHITECTURES.values()) if (one.modelTypes.includes(file.spec.modelType)) read.add(one.name);

    test('describes itself as the folder does, with the same weights', async () => {
      const folder = await openModelFolder(isGolden ? `${GOLDEN}models/${name}` : `${FIXTURES}../families/${name}`);
      assertAlike(told(file, name), told(folder, name), '');
      for (const tensor of tensorsOf(folder)) {
        const [one, other] = [await file.checkpoint.readFloat32(tensor), await folder.checkpoint.readFloat32(tensor)];
        assert.equal(largestDifference(one, other), 0, tensor);
      }
      await folder.close();
    });

    test("gives PyTorch's logits, with and without adapters", async () => {
      const logits = await logitsOf(file, ['base', 'lora', 'full']);
      if (isGolden) {
        assert.ok((await goldenError(name, null, logits)) <= TOLERANCE);
        const adapter = await readAdapterFolder(`${GOLDEN}adapters/${name}/all-r8`, adapterBaseOf(file));
        assert.ok((await goldenError(name, 'all-r8', (ids) => logits(ids, adapter))) <= TOLERANCE);
        return;
      }
      const fixture = await openFamily(name);
      for (const [adapterName, prompts] of Object.entries(fixture.expected.answers)) {
        const adapter =
          adapterName === 'base'
            ? undefined
            : await readAdapterFolder(`${FIXTURES}../families/${name}/adapters/${adapterName}`, adapterBaseOf(file));
        for (const [prompt, answer] of Object.entries(prompts)) {
          if (WINDOW_UNTOLD[name]?.includes(prompt) === false) continue;
          const got = await logits(fixture.expected.prompts[prompt]!, adapter);
          const error = largestDifference(got, await fixture.logits(answer.logits));
          assert.ok(error <= TOLERANCE, `${adapterName}, ${prompt}: logits differ by ${error}`);
        }
      }
      await fixture.close();
    });
  });
}

for (const name of ADAPTED) {
  test(`an adapter of ${name} in GGUF form gives PyTorch's logits, on the folder and on the file`, async () => {
    const fixture = await openFamily(name);
    const file = NAMES.includes(name) ? await openModelFolder(`${DIR}${name}.gguf`) : undefined;
    for (const base of [fixture.folder, ...(file === undefined ? [] : [file])]) {
      const adapter = await readAdapterFolder(`${FIXTURES}adapter-${name}-all.gguf`, adapterBaseOf(base));
      const logits = await logitsOf(base, ['base', 'lora']);
      for (const [prompt, answer] of Object.entries(fixture.expected.answers.all!)) {
        if (base === file && WINDOW_UNTOLD[name]?.includes(prompt) === false) continue;
        const got = await logits(fixture.expected.prompts[prompt]!, adapter);
        const error = largestDifference(got, await fixture.logits(answer.logits));
        assert.ok(error <= TOLERANCE, `${prompt}: logits differ by ${error}`);
      }
    }
    await Promise.all([fixture.close(), file?.close()]);
  });
}

test('an adapter of GPT-2 in GGUF form is refused: its linears are turned', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
  const path = join(dir, 'adapter.gguf');
  const metadata = {
    'general.type': str('adapter'),
    'adapter.type': str('lora'),
    'general.architecture': str('gpt2'),
  };
  const tensors = [
    f32Tensor('blk.0.attn_output.weight.lora_a', [2, 48]),
    f32Tensor('blk.0.attn_output.weight.lora_b', [48, 2]),
  ];
  writeFileSync(path, rawGguf({ metadata, tensors }));
  const folder = await openModelFolder(`${DIR}gpt2.gguf`);
  await assert.rejects(readAdapterFolder(path, adapterBaseOf(folder)), {
    reason: 'ADAPTER_INVALID',
    message: /llama.cpp stores blk.0.attn_output.weight in a form of its own, in which no adapter is read/,
  });
  await folder.close();
  rmSync(dir, { recursive: true });
});

/** A description, without what a file does not tell. */
function told({ spec }: ModelFolder, name: string): unknown {
  if (!Object.hasOwn(WINDOW_UNTOLD, name)) return spec;
  const layers = spec.layers.map((layer) => ({ ...layer, attention: { ...layer.attention, window: undefined } }));
  return { ...spec, layers };
}

/** Every tensor that a model has a use for. */
function tensorsOf({ spec }: ModelFolder): string[] {
  const { weight, positions } = spec.embedding;
  const parts = [...allLinears(spec), ...allNorms(spec)].flatMap((one) => [one.weight, one.bias]);
  return [weight, positions?.weight, ...parts].filter((tensor) => tensor !== undefined);
}

/** Equal but for the rounding of a file's numbers to float32. */
function assertAlike(one: unknown, other: unknown, at: string): void {
  if (typeof one === 'number' && typeof other === 'number') {
    assert.ok(Math.abs(one - other) <= 2e-7 * Math.abs(other), `${at}: ${one} for ${other}`);
  } else if (typeof one === 'object' && one !== null && typeof other === 'object' && other !== null) {
    const [mine, yours] = [one, other] as Record<string, unknown>[];
    for (const key of new Set([...Object.keys(mine!), ...Object.keys(yours!)]))
      assertAlike(mine![key], yours![key], `${at}.${key}`);
  } else assert.equal(one, other, at);
}
