/**
 * The int8 arithmetic: close to float32 on every golden model, exact sums, and rows that do not know each other. Rounding
 * what linears read costs a few percent of these models' logits: their weights are random, so nothing averages out.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { exactWeightBytes } from '../../server/engine/integer-check.js';
import { BASE_ROW, combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { heldFloats } from '../../server/model/checkpoint.js';
import { convertColumns } from '../../server/model/column-store.js';
import { rotateRows } from '../../server/model/rotation.js';
import { type LinearSpec, linearGroups } from '../../server/model/spec.js';
import { decodeTogether } from './decode-together.js';
import { GOLDEN_MODELS, type GoldenModel, openGolden } from './golden-model.js';

const BYTES = await exactWeightBytes();
const EXACT = BYTES === undefined ? { skip: 'this processor has no exact byte products; blocks are used instead' } : {};

/** Row i: what the rotation makes of the i-th unit vector. */
function rotatedBasis(length: number): Float32Array {
  const basis = new Float32Array(length * length);
  for (let i = 0; i < length; i += 1) basis[i * length + i] = 1;
  rotateRows(basis, length);
  return basis;
}

/** The model in float32 arithmetic with the weights that int8 rounds to. */
async function openRounded({ folder }: GoldenModel): Promise<StepRunner> {
  const { spec, checkpoint } = folder;
  const groups = linearGroups(spec);
  const store = await convertColumns(
    groups,
    async ({ weight }) => heldFloats(await checkpoint.readFloat32(weight)),
    'signed',
  );
  const changed = new Map<string, Float32Array>();
  for (const linears of groups) {
    const { weights, scales, columns } = store.group(linears);
    const q = new Int8Array(store.bytes.buffer, weights.offset, weights.length);
    const s = new Float32Array(store.bytes.buffer, scales.offset, columns);
    const { inFeatures } = linears[0]!;
    const basis = rotatedBasis(inFeatures);
    let from = 0;
    for (const { weight, outFeatures, conv1d } of linears) {
      const values = new Float32Array(inFeatures * outFeatures);
      for (let i = 0; i < inFeatures; i += 1) {
        for (let o = 0; o < outFeatures; o += 1) {
          let sum = 0;
          for (let k = 0; k < inFeatures; k += 1) sum += basis[i * inFeatures + k]! * q[k * columns + from + o]!;
          values[conv1d ? i * outFeatures + o : o * inFeatures + i] = sum * s[from + o]!;
        }
      }
      changed.set(weight, values);
      from += outFeatures;
    }
  }
  const rounded = {
    ...folder,
    checkpoint: { ...checkpoint, changed, mapped: () => undefined },
  };
  const factory = await SessionFactory.create(rounded, 'fp32');
  const sessions = [await factory.open('base', 1), await factory.open('lora', 1), await factory.open('full', 1)];
  return new StepRunner(spec, await EmbeddingTable.read(folder), sessions);
}

const linear = (inFeatures: number, outFeatures: number, weight: string, conv1d = false): LinearSpec => ({
  module: weight,
  inFeatures,
  outFeatures,
  weight,
  conv1d,
});

test('weights of one input lie side by side, rotated, each column at its own scale', async () => {
  const values: Record<string, Float32Array> = {
    first: Float32Array.of(1, -2, 0.5, 3, 0, 0, 0, 0), // [2, 4]
    second: Float32Array.of(254, -3, 127, 8), // [4, 1] of a Conv1D
  };
  const linears = [linear(4, 2, 'first'), linear(4, 1, 'second', true)];
  const store = await convertColumns([linears], async ({ weight }) => heldFloats(values[weight]!), 'signed');
  const { weights, scales, columns } = store.group(linears);
  assert.equal(columns, 3);
  const q = new Int8Array(store.bytes.buffer, weights.offset, weights.length);
  const s = new Float32Array(store.bytes.buffer, scales.offset, 3);
  const wanted = Float32Array.of(...values['first']!, ...values['second']!); // [3, 4]
  rotateRows(wanted, 4);
  for (let column = 0; column < 3; column += 1) {
    const own = wanted.subarray(column * 4, column * 4 + 4);
    const most = own.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    assert.equal(s[column], Math.fround(most / 127));
    for (let i = 0; i < 4; i += 1) {
      assert.ok(Math.abs(q[i * columns + column]! * s[column]! - own[i]!) <= s[column]! * 0.5001);
    }
  }
  assert.deepEqual(values['first'], Float32Array.of(1, -2, 0.5, 3, 0, 0, 0, 0), 'what was read stays as it was');
});

describe('int8', EXACT, () => {
  for (const name of GOLDEN_MODELS) {
    test(`${name}: logits are those of float32 arithmetic on the rounded weights`, async () => {
      const fast = await openGolden(name, ['base', 'lora', 'full'], 'int8');
      const exact = await openRounded(fast);
      const selections = [BASE_ROW];
      for (const { path, policy } of Object.values(fast.golden.adapters)) {
        if (policy === 'reject') continue;
        const adapter = await fast.adapter(path);
        if (adapter.invocationTokens === undefined) selections.push(combine([{ adapter, weight: 1 }]));
      }
      const { token_ids: ids } = fast.golden.prompts[0]!;
      for (const selection of selections) {
        const [wanted] = await decodeTogether(exact, [{ ids, adapter: selection }]);
        const [computed] = await decodeTogether(fast.runner, [{ ids, adapter: selection }]);
        const size = wanted!.reduce((sum, value) => sum + value ** 2, 0);
        const error = wanted!.reduce((sum, value, i) => sum + (value - computed![i]!) ** 2, 0);
        const relative = Math.sqrt(error / size);
        assert.ok(relative > 0 && relative < 6e-2, `${selection.key}: ${relative}`);
      }
      await fast.close();
    });
  }

  test('a row is the same, bit for bit, alone and beside others, whatever their adapters', async () => {
    const model = await openGolden('llama', ['base', 'lora'], 'int8');
    const usable = Object.values(model.golden.adapters).filter(({ path }) => path.includes('lora'));
    const adapters: RowAdapter[] = [BASE_ROW];
    for (const { path } of usable) {
      const adapter = await model.adapter(path).catch(() => undefined);
      if (adapter === undefined || adapter.invocationTokens !== undefined) continue;
      const selection = combine([{ adapter, weight: 1 }]);
      if (!selection.needsFullGraph && adapters.length < 5) adapters.push(selection);
    }
    assert.ok(adapters.length >= 3);
    const prompts = model.golden.prompts.map(({ token_ids }) => token_ids).filter((ids) => ids.length > 2);
    const rows = adapters.map((adapter, i) => ({ ids: prompts[i % prompts.length]!, adapter }));
    const all = await decodeTogether(model.runner, rows);
    for (const [i, row] of rows.entries()) {
      for (const other of rows.slice(i + 1)) {
        const [pair] = await decodeTogether(model.runner, [row, other]);
        assert.deepEqual(pair, all[i], `row ${i} beside one other and beside all`);
      }
    }
    const reversed = (await decodeTogether(model.runner, rows.toReversed())).toReversed();
    assert.deepEqual(reversed, all);
    await model.close();
  });
});
