/** Where rows of one selection lie: side by side, none lost, and moved only where that is repaid. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BASE_ROW, type RowAdapter } from '../../server/engine/row-adapter.js';
import { rowGroups } from '../../server/engine/row-groups.js';
import { arrange, bestFree, betterOrder } from '../../server/engine/row-order.js';

interface One {
  readonly key: string;
  readonly at: number;
}

/** Slots from letters; a dot is a free one. */
const slotsOf = (keys: string): (One | undefined)[] =>
  [...keys].map((key, at) => (key === '.' ? undefined : { key, at }));
const keysOf = (slots: readonly ({ readonly key: string } | undefined)[]) =>
  slots.map((slot) => slot?.key ?? '.').join('');

describe('rows of one selection', () => {
  const anySlots = fc
    .array(fc.constantFrom('a', 'a', 'b', 'b', 'c', 'd', '.'), { minLength: 1, maxLength: 24 })
    .map((keys) => slotsOf(keys.join('')));

  test('are arranged without losing one, in as few groups as any order has', () => {
    fc.assert(
      fc.property(anySlots, (slots) => {
        const order = arrange(slots);
        assert.equal(order.length, slots.length);
        const rows = (of: readonly (One | undefined)[]) => of.filter((row) => row !== undefined);
        assert.deepEqual(new Set(rows(order)), new Set(rows(slots)));
        assert.equal(rows(order).length, rows(slots).length);
        // No order can have groups of so many members unless each selection's groups fit beside one another.
        const groups = rowGroups(order).length;
        const members = slots.length / groups;
        for (let more = slots.length; more > members; more -= 1) {
          if (slots.length % more !== 0) continue;
          const counts = new Map<string, number>();
          for (const { key } of rows(slots)) counts.set(key, (counts.get(key) ?? 0) + 1);
          const needed = [...counts.values()].reduce((sum, count) => sum + Math.ceil(count / more), 0);
          assert.ok(needed > slots.length / more, `${keysOf(slots)} could have groups of ${more}: ${keysOf(order)}`);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('stay where they are as far as they can', () => {
    assert.equal(keysOf(arrange(slotsOf('aabbccdd'))), 'aabbccdd');
    assert.equal(keysOf(arrange(slotsOf('aabbcddc'))), 'aabbccdd');
    assert.equal(keysOf(arrange(slotsOf('bb..aa..'))), 'bb..aa..');
    assert.equal(keysOf(arrange(slotsOf('abcdefgh'))), 'abcdefgh');
    const order = arrange(slotsOf('aabbcddc'));
    assert.deepEqual(
      order.flatMap((row, slot) => (row!.at === slot ? [] : [slot])),
      [5, 7],
    );
  });

  test('leave free slots between them where that makes their groups larger', () => {
    assert.equal(rowGroups(arrange(slotsOf('aaabcc..'))).length, 4);
    assert.equal(keysOf(arrange(slotsOf('bbaa....'))), 'bb..aa..');
  });

  test('come to the free slot beside their like', () => {
    assert.equal(bestFree(slotsOf('ab.c.d'), { key: 'b', at: 9 }), 2, 'no larger groups either way: the first');
    assert.equal(bestFree(slotsOf('a.b.'), { key: 'b', at: 9 }), 3);
    assert.equal(bestFree(slotsOf('.'), { key: 'b', at: 9 }), 0);
  });
});

describe('rows are moved', () => {
  const adapter = (floats: number, needsFullGraph = false): RowAdapter => ({
    ...BASE_ROW,
    needsFullGraph,
    linears: new Map([['up', { rank: 1, a: new Float32Array(floats), b: new Float32Array(floats) }]]),
  });
  const rows = (keys: string, left: number, bound = adapter(1000)) =>
    slotsOf(keys).map((one) => one && { ...one, adapter: bound, length: 10, totalTokens: 10 + left });

  test('when the weights that this saves are more than what it costs', () => {
    assert.equal(rowGroups(betterOrder(rows('abab', 100), 100)!).length, 2);
  });

  test('but not for their last tokens, nor where the weights are small', () => {
    assert.equal(betterOrder(rows('abab', 1), 100), undefined);
    assert.equal(betterOrder(rows('abab', 100, adapter(1)), 1000), undefined);
  });

  test('nor where no order is better', () => {
    assert.equal(betterOrder(rows('abcd', 100), 1), undefined);
    assert.equal(betterOrder(rows('aabb', 100), 1), undefined);
    assert.equal(betterOrder(rows('aaaa', 100), 1), undefined);
  });

  test('nor where a row has inputs by slot', () => {
    assert.equal(betterOrder(rows('abab', 100, adapter(1000, true)), 1), undefined);
  });
});
