/** Merged models against PEFT's merge_and_unload, and against the unmerged engine. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { BASE_ROW, combine } from '../../server/engine/row-adapter.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { AppError } from '../../server/errors.js';
import { type MergePart, mergeInto } from '../../server/model/merge.js';
import { GOLDEN_MODELS, type GoldenCase, type GoldenModel, logitError, openGolden } from './golden-model.js';

/** Bound that the golden set suggests for merged weights. */
const TOLERANCE = 5e-4;

async function mergedRunner(model: GoldenModel, parts: readonly MergePart[]): Promise<StepRunner> {
  const folder = await mergeInto(model.folder, parts);
  const factory = await SessionFactory.create(folder, 'fp32');
  return new StepRunner(folder.spec, await EmbeddingTable.read(folder), [await factory.open('base', 1)]);
}

async function logitsOf(runner: StepRunner, ids: readonly number[], adapter = BASE_ROW): Promise<Float32Array> {
  const store = new KvStore(runner.spec.layers.length, runner.kvWidth, 1, ids.length);
  return (
    await runner.prefill(
      ids,
      0,
      store,
      adapter,
      ids.map((_, i) => i),
    )
  ).slice();
}

for (const name of GOLDEN_MODELS) {
  describe(`merged ${name}`, async () => {
    const model = await openGolden(name);
    after(() => model.close());
    const { merged } = model.golden as unknown as {
      merged: { adapter: string; prompts: Record<string, GoldenCase> }[];
    };

    for (const { adapter, prompts } of merged) {
      test(`${adapter} merged equals merge_and_unload`, async () => {
        const path = model.golden.adapters[adapter]!.path;
        const runner = await mergedRunner(model, [{ adapter: await model.adapter(path), weight: 1 }]);
        for (const [prompt, wanted] of Object.entries(prompts)) {
          const error = await logitError(model, wanted, await logitsOf(runner, model.promptIds(prompt)));
          assert.ok(error <= TOLERANCE, `${prompt}: logits differ by ${error}`);
        }
      });
    }

    test('every adapter merged equals the same adapter unmerged', async () => {
      for (const [adapterName, { path, policy, exercises }] of Object.entries(model.golden.adapters)) {
        if (policy !== 'load' || adapterName === 'alora') continue;
        const adapter = await model.adapter(path);
        const runner = await mergedRunner(model, [{ adapter, weight: 1 }]);
        const ids = model.promptIds('p1');
        const own = await logitsOf(runner, ids);
        const unmerged = await logitsOf(model.runner, ids, combine([{ adapter, weight: 1 }]));
        const worst = own.reduce((most, value, i) => Math.max(most, Math.abs(value - unmerged[i]!)), 0);
        assert.ok(worst <= TOLERANCE, `${adapterName} (${exercises}): logits differ by ${worst}`);
      }
    });
  });
}

describe('merging', async () => {
  const model = await openGolden('llama');
  after(() => model.close());
  test('a weighted mixture merges to the exact sum', async () => {
    const { adapters, weights, prompts } = model.golden.weighted.find(
      ({ combination_type }) => combination_type === 'cat',
    )!;
    const parts: MergePart[] = [];
    for (const [i, name] of adapters.entries()) {
      parts.push({ adapter: await model.adapter(model.golden.adapters[name]!.path), weight: weights[i]! });
    }
    const runner = await mergedRunner(model, parts);
    for (const [prompt, wanted] of Object.entries(prompts)) {
      const error = await logitError(model, wanted, await logitsOf(runner, model.promptIds(prompt)));
      assert.ok(error <= TOLERANCE, `${prompt}: logits differ by ${error}`);
    }
  });

  test('a weight that takes the model out of the range of floats is refused, not served', async () => {
    const adapter = await model.adapter(model.golden.adapters['qv-r4']!.path);
    await assert.rejects(
      mergeInto(model.folder, [{ adapter, weight: 1e300 }]),
      (error) =>
        error instanceof AppError &&
        error.reason === 'ADAPTER_OVERFLOW' &&
        /_proj\.weight leaves the range of floats/.test(error.message),
    );
  });

  test('an activated adapter has no merged form and is refused', async () => {
    const adapter = await model.adapter(model.golden.adapters.alora!.path);
    await assert.rejects(
      mergeInto(model.folder, [{ adapter, weight: 1 }]),
      (error) => error instanceof AppError && error.reason === 'ADAPTER_UNSUPPORTED',
    );
  });
});
