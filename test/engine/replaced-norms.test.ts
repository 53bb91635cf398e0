/** Norms that an adapter replaces, weights and biases, against PyTorch: alone, and beside a base row in one step. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readAdapterFolder } from '../../server/adapters/read-adapter.js';
import { SUPPORTED_FEATURES } from '../../server/engine/features.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { BASE_ROW, combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { adapterBaseOf } from '../../server/model/module-table.js';
import { openGolden } from './golden-model.js';

const ROOT = fileURLToPath(new URL('../fixtures/replaced-norms/', import.meta.url));

const worst = (a: Float32Array, b: Float32Array | readonly number[]) =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

for (const name of ['gpt2', 'gemma']) {
  describe(`replaced norms of ${name}`, async () => {
    const model = await openGolden(name);
    after(() => model.close());
    const { ids, logits } = JSON.parse(readFileSync(`${ROOT}${name}/expected.json`, 'utf8')) as {
      ids: number[];
      logits: number[];
    };
    const bound = await readAdapterFolder(`${ROOT}${name}`, adapterBaseOf(model.folder));
    const adapter = combine([{ adapter: bound, weight: 1 }]);
    const { runner } = model;
    const prefill = async (row: RowAdapter, tokens: readonly number[]) => {
      const store = new KvStore(runner.spec.layers.length, runner.kvWidth, 1, tokens.length);
      return { store, logits: (await runner.prefill(tokens, 0, store, row, [tokens.length - 1])).slice() };
    };

    test('prefill gives PyTorch’s logits, which are not the base’s', async () => {
      assert.deepEqual(
        bound.features.filter((feature) => !SUPPORTED_FEATURES.has(feature)),
        [],
      );
      assert.ok(worst((await prefill(adapter, ids)).logits, logits) <= 2e-4);
      assert.ok(worst((await prefill(BASE_ROW, ids)).logits, logits) > 0.1);
    });

    test('decoding beside a base row gives each row its own', async () => {
      const batch = new KvStore(runner.spec.layers.length, runner.kvWidth, 2, ids.length);
      const head = ids.slice(0, -1);
      for (const [slot, row] of [adapter, BASE_ROW].entries())
        (await prefill(row, head)).store.copyStretch({ slot: 0, from: 0, count: head.length }, batch, slot, 0);
      const slot = { token: ids.at(-1)!, length: head.length, horizon: ids.length };
      const both = await runner.decode(
        [
          { ...slot, adapter },
          { ...slot, adapter: BASE_ROW },
        ],
        batch,
      );
      const { vocabSize } = runner.spec;
      assert.ok(worst(both.subarray(0, vocabSize), logits) <= 2e-4);
      assert.ok(worst(both.subarray(vocabSize), (await prefill(BASE_ROW, ids)).logits) <= 2e-4);
    });
  });
}
