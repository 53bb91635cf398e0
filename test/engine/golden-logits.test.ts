/** The engine's arithmetic against PyTorch: every golden model, base and every adapter, every prompt, all positions. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { KvStore } from '../../server/engine/kv-store.js';
import { combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { activationPoint, spansOf } from '../../server/engine/row-spans.js';
import { SupportRecord } from '../support.js';
import { GOLDEN_MODELS, type GoldenModel, logitError, openGolden } from './golden-model.js';

/** Bound that the golden set suggests for float32 arithmetic. */
const TOLERANCE = 2e-4;
const support = new SupportRecord('golden-logits');

/** Logits of every prompt position, [prompt, vocab]; activated adapters begin where their tokens stand. */
async function allLogits(
  model: GoldenModel,
  ids: readonly number[],
  spans: readonly { from: number; adapter: RowAdapter }[],
) {
  const { spec, kvWidth } = model.runner;
  const store = new KvStore(spec.layers.length, kvWidth, 1, ids.length);
  const parts: Float32Array[] = [];
  for (const [i, { from, adapter }] of spans.entries()) {
    const chunk = ids.slice(from, spans[i + 1]?.from);
    parts.push(
      (
        await model.runner.prefill(
          chunk,
          from,
          store,
          adapter,
          chunk.map((_, at) => at),
        )
      ).slice(),
    );
  }
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => {
    all.set(part, at);
    return at + part.length;
  }, 0);
  return all;
}

for (const name of GOLDEN_MODELS) {
  describe(`golden ${name}`, async () => {
    const model = await openGolden(name);
    after(() => model.close());
    const check = async (
      adapter: string | null,
      spansFor: (ids: readonly number[]) => { from: number; adapter: RowAdapter }[],
    ) => {
      for (const [prompt, wanted] of Object.entries(model.expected(adapter))) {
        const ids = model.promptIds(prompt);
        const error = await logitError(model, wanted, await allLogits(model, ids, spansFor(ids)));
        assert.ok(error <= TOLERANCE, `${adapter ?? 'base'} on ${prompt}: logits differ by ${error}`);
      }
    };

    const { modelType } = model.folder.spec;
    test('base logits equal PyTorch', () =>
      support.note(modelType, ['base'], () => check(null, () => [{ from: 0, adapter: combine([]) }])));

    for (const [adapterName, entry] of Object.entries(model.golden.adapters)) {
      if (entry.policy !== 'load') continue;
      test(`logits of adapter ${adapterName} equal PyTorch: ${entry.exercises}`, async () => {
        const adapter = await model.adapter(entry.path);
        await support.note(modelType, adapter.features, () =>
          check(adapterName, (ids) =>
            spansOf([{ adapter, weight: 1, from: activationPoint(adapter, ids) }], (active) => combine(active)),
          ),
        );
      });
    }

    for (const [i, { combination_type, adapters, weights, prompts }] of model.golden.weighted.entries()) {
      if (combination_type !== 'cat') continue;
      test(`weighted sum ${i} of ${adapters.join(', ')} is exact`, async () => {
        const parts = [];
        for (const [at, part] of adapters.entries()) {
          parts.push({ adapter: await model.adapter(model.golden.adapters[part]!.path), weight: weights[at]! });
        }
        for (const [prompt, wanted] of Object.entries(prompts)) {
          const error = await logitError(
            model,
            wanted,
            await allLogits(model, model.promptIds(prompt), [{ from: 0, adapter: combine(parts) }]),
          );
          assert.ok(error <= TOLERANCE, `${prompt}: logits differ by ${error}`);
        }
      });
    }
  });
}
