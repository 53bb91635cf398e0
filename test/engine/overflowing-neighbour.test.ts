/** An adapter whose arithmetic leaves the range of float32 spoils its own rows and no other's. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { BASE_ROW, combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { openGolden } from './golden-model.js';

for (const [how, worthPieces] of [
  ['groups', 0],
  ['pieces', Number.POSITIVE_INFINITY],
] as const)
  describe(`beside an adapter that overflows, in ${how}`, async () => {
    const model = await openGolden('llama', ['base', 'lora', 'pieces'], 'fp32', worthPieces);
    after(() => model.close());
    const { runner, folder } = model;
    const { vocabSize, hiddenSize, layers } = folder.spec;

    /** Rank 4 on every layer's output projection. */
    const adapter = (digest: string, a: number, b: number): BoundAdapter => ({
      digest,
      bytes: 0,
      linears: layers.map(({ attention }) => ({
        module: attention.output.module,
        rank: 4,
        scaling: 1,
        a: new Float32Array(4 * attention.output.inFeatures).fill(a),
        b: new Float32Array(4 * hiddenSize).map((_, i) => (i % 2 === 0 ? b : -b)),
      })),
      norms: new Map(),
      features: ['lora'],
      warnings: [],
    });
    const of = (bound: BoundAdapter, weight = 1) => combine([{ adapter: bound, weight }]);
    const mild = of(adapter('mild', 0.01, 0.02));
    const other = of(adapter('other', -0.01, 0.03));
    const hidden = of(adapter('large a', 3e38, 0.01));
    const output = of(adapter('large b', 1, 3e38));
    const weighted = of(adapter('large weight', 1, 1e30), 1e30);

    const decode = async (rows: readonly RowAdapter[]): Promise<Float32Array[]> => {
      const store = runner.createStore(rows.length, 32);
      const logits = await runner.decode(
        rows.map((chosen, i) => ({ token: 5 + i, length: 0, adapter: chosen, horizon: 32 })),
        store,
      );
      return rows.map((_, slot) => logits.slice(slot * vocabSize, (slot + 1) * vocabSize));
    };

    for (const [what, bad] of Object.entries({ 'x A^T': hidden, 'x A^T B': output, 'a weight times B': weighted })) {
      test(`rows of other adapters and of the base are what they are beside a sound one: ${what}`, async () => {
        const sound = await decode([mild, mild, BASE_ROW, BASE_ROW, other, other]);
        const beside = await decode([mild, mild, BASE_ROW, BASE_ROW, bad, bad]);
        for (const slot of [4, 5]) {
          const overflows = beside[slot]!.some((value) => !Number.isFinite(value));
          assert.ok(overflows, 'the row itself overflows');
        }
        for (const slot of [0, 1, 2, 3]) {
          assert.ok(beside[slot]!.every(Number.isFinite));
          assert.deepEqual(beside[slot], sound[slot], `slot ${slot}`);
        }
      });
    }

    test('a base row gets what it gets among base rows', async () => {
      const [, , , base] = await decode([mild, mild, mild, BASE_ROW, hidden]);
      const store = runner.createStore(1, 32);
      const alone = await runner.decode([{ token: 8, length: 0, adapter: BASE_ROW, horizon: 32 }], store);
      for (const [i, value] of alone.entries()) assert.ok(Math.abs(value - base![i]!) < 1e-4, `logit ${i}`);
    });
  });
