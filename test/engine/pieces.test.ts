/** A decode step in pieces gives every row what it gets in even groups of rows. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import type { Dtype } from '../../server/engine/decoder-session.js';
import { BASE_ROW, combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { decodeTogether } from './decode-together.js';
import { openGolden } from './golden-model.js';

/** Selections of one batch, in the order of its rows; '' is the base. Ranks and targets differ within each. */
const BATCHES: readonly (readonly [model: string, rows: readonly (readonly string[])[]])[] = [
  ['llama', [['all-r8'], [], ['mlp-r16'], ['att-r1'], ['mlp-r16'], ['mlp-r16'], ['patterns', 'qv-r4']]],
  ['llama', [['lm-head'], ['all-r8', 'all-r8-b', 'mlp-r16'], [], ['layer1'], ['lm-head']]],
  ['qwen2', [['all-r8'], ['qv-r4'], ['all-r8'], [], ['all-r8', 'qv-r4']]],
  ['gpt2', [['all-r8'], [], ['c-attn-r4'], ['c-attn-r4'], ['rslora', 'all-r8']]],
];

/** In int8 a sum in another order may tip the rounding of an input. */
const TOLERANCE: Readonly<Record<Dtype, number>> = { fp32: 2e-4, int8: 0.2 };

for (const dtype of ['fp32', 'int8'] as const) {
  describe(`a step in pieces (${dtype})`, () => {
    for (const [name, rows] of BATCHES) {
      test(`of ${name} with ${rows.map((row) => row.join(' + ') || 'base').join(', ')}`, async (t) => {
        const open = (worth: number) => openGolden(name, ['base', 'lora', 'pieces'], dtype, worth);
        const [grouped, cut] = [await open(0), await open(Number.POSITIVE_INFINITY)];
        t.after(() => Promise.all([grouped.close(), cut.close()]));
        const selections: RowAdapter[] = [];
        for (const row of rows) {
          const parts = [];
          for (const adapter of row)
            parts.push({ adapter: await grouped.adapter(`adapters/${name}/${adapter}`), weight: 1 / row.length });
          selections.push(parts.length === 0 ? BASE_ROW : combine(parts));
        }
        const prompts = grouped.golden.prompts.map(({ token_ids: ids }) => ids).filter(({ length }) => length > 1);
        const batch = selections.map((adapter, i) => ({ ids: prompts[i % prompts.length]!, adapter }));
        const [wanted, got] = [await decodeTogether(grouped.runner, batch), await decodeTogether(cut.runner, batch)];
        assert.equal(grouped.steps.get('pieces'), undefined);
        assert.equal(cut.steps.get('pieces'), 1);
        for (const [row, logits] of got.entries()) {
          const error = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted[row]![i]!)), 0);
          assert.ok(error <= TOLERANCE[dtype], `row ${row}: logits differ by ${error}`);
        }
      });
    }
  });
}

describe('rows in pieces', async () => {
  const model = await openGolden('llama', ['base', 'lora', 'pieces'], 'fp32', Number.POSITIVE_INFINITY);
  after(() => model.close());

  test('are told apart: each has the logits that it has alone, and none those of another', async () => {
    const selections = [BASE_ROW];
    for (const name of ['all-r8', 'mlp-r16', 'att-r1'])
      selections.push(combine([{ adapter: await model.adapter(`adapters/llama/${name}`), weight: 1 }]));
    const ids = model.golden.prompts.find(({ token_ids }) => token_ids.length > 1)!.token_ids;
    const together = await decodeTogether(
      model.runner,
      selections.map((adapter) => ({ ids, adapter })),
    );
    for (const [row, adapter] of selections.entries()) {
      const [alone] = await decodeTogether(model.runner, [{ ids, adapter }]);
      for (const [other, logits] of together.entries()) {
        const error = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - alone![i]!)), 0);
        assert.equal(error < 2e-4, row === other, `row ${row} alone against row ${other}: ${error}`);
      }
    }
  });
});
