/** Rows that share products: which rows do, and that each row's inputs hold its own pair and no other's. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type LoraInputs, SlotFeeds } from '../../server/engine/lora-feeds.js';
import { BASE_ROW, type LowRank, type RowAdapter } from '../../server/engine/row-adapter.js';
import { rowGroups } from '../../server/engine/row-groups.js';
import type { DecoderGraph } from '../../server/model/decoder-graph.js';
import { siteInputs } from '../../server/model/graph-sites.js';

const SITES = [
  { module: 'layers.0.up', inFeatures: 3, outFeatures: 4 },
  { module: 'layers.0.down', inFeatures: 4, outFeatures: 3 },
  { module: 'layers.1.up', inFeatures: 3, outFeatures: 4 },
  { module: 'layers.1.down', inFeatures: 4, outFeatures: 3 },
].map((site) => ({ ...site, weight: site.module, conv1d: false }));
const GRAPH = { variant: 'lora', linears: SITES, groupWidths: [] } as unknown as DecoderGraph;

/** A selection of one rank a site; all its values are `value`, so that a sum tells where it came from. */
function selection(key: string, ranks: readonly number[], value: number): RowAdapter {
  const linears = new Map<string, LowRank>();
  for (const [i, { module, inFeatures, outFeatures }] of SITES.entries()) {
    const rank = ranks[i] ?? 0;
    const values = (width: number) => new Float32Array(rank * width).fill(value);
    if (rank > 0) linears.set(module, { rank, a: values(inFeatures), b: values(outFeatures) });
  }
  return { ...BASE_ROW, key, linears };
}

/** What the graph adds for a slot at a site, for an input of ones. */
function update({ groups, feeds }: LoraInputs, slots: number, slot: number, site: (typeof SITES)[number]): number[] {
  const group = Math.floor(slot / (slots / groups));
  const a = feeds[siteInputs.a(site.module)]!;
  const b = feeds[siteInputs.b(site.module)]!;
  const rank = a.dims[1]!;
  assert.deepEqual(a.dims, [groups, rank, site.inFeatures]);
  assert.deepEqual(b.dims, [groups, rank, site.outFeatures]);
  const y = new Array<number>(site.outFeatures).fill(0);
  for (let r = group * rank; r < (group + 1) * rank; r += 1) {
    let hidden = 0;
    for (let i = 0; i < site.inFeatures; i += 1) hidden += a.data[r * site.inFeatures + i] as number;
    for (let o = 0; o < site.outFeatures; o += 1) y[o]! += hidden * (b.data[r * site.outFeatures + o] as number);
  }
  return y;
}

describe('row groups', () => {
  const ranks = fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 4, maxLength: 4 });
  const known = fc
    .array(ranks, { minLength: 1, maxLength: 4 })
    .map((all) => [undefined, BASE_ROW, ...all.map((one, i) => selection(`s${i}`, one, i + 1))]);
  const batch = known.chain((all) => {
    const run = fc.tuple(fc.constantFrom(...all), fc.constantFrom(1, 2, 2, 4));
    const slots = fc
      .array(run, { minLength: 1, maxLength: 6 })
      .map((runs) => runs.flatMap(([row, length]) => new Array<RowAdapter | undefined>(length).fill(row)));
    return fc.array(slots, { minLength: 1, maxLength: 6 });
  });

  test('give every row its own pair and nothing else, whatever was fed before', () => {
    fc.assert(
      fc.property(batch, (steps) => {
        const feeds = new SlotFeeds();
        for (const slots of steps) {
          const inputs = feeds.of(slots, GRAPH);
          for (const [slot, row] of slots.entries()) {
            if (row === undefined) continue;
            for (const site of SITES) {
              const pair = row.linears.get(site.module);
              const value = pair === undefined ? 0 : pair.rank * site.inFeatures * pair.a[0]! * pair.b[0]!;
              const wanted = new Array<number>(site.outFeatures).fill(value);
              assert.deepEqual(update(inputs, slots.length, slot, site), wanted, `slot ${slot}, ${site.module}`);
            }
          }
        }
      }),
      { numRuns: 300 },
    );
  });

  test('are written anew where a smaller step in between has changed the buffers of some sites', () => {
    const [a, b] = [selection('a', [5], 1), selection('b', [8], 2)];
    const eightOf = (row: RowAdapter) => new Array<RowAdapter>(8).fill(row);
    const feeds = new SlotFeeds();
    // Steps of 11, 9 and 11 groups; the second makes room of another rank, with nothing behind its own groups.
    for (const slots of [
      [BASE_ROW, BASE_ROW, ...eightOf(a), BASE_ROW],
      [b, ...eightOf(a)],
      [b, b, ...eightOf(a), b],
    ]) {
      const inputs = feeds.of(slots, GRAPH);
      assert.equal(inputs.groups, slots.length);
      for (const [slot, row] of slots.entries()) {
        const pair = row.linears.get(SITES[0]!.module);
        const value = pair === undefined ? 0 : pair.rank * SITES[0]!.inFeatures * pair.a[0]! * pair.b[0]!;
        assert.deepEqual(update(inputs, slots.length, slot, SITES[0]!), new Array(4).fill(value), `slot ${slot}`);
      }
    }
  });

  const groups = (keys: string) =>
    rowGroups([...keys].map((key) => (key === '.' ? undefined : selection(key, [1, 1, 1, 1], 1))))
      .map((one) => one?.key ?? '.')
      .join('');

  test('are as large as equal neighbours allow, in one size', () => {
    assert.equal(groups('abcdefgh'), 'abcdefgh');
    assert.equal(groups('aabbccdd'), 'abcd');
    assert.equal(groups('aaaabbbb'), 'ab');
    assert.equal(groups('aaaabbcc'), 'aabc');
    assert.equal(groups('aabbbbcd'), 'aabbbbcd');
    assert.equal(groups('aaabbbccc'), 'abc');
    assert.equal(groups('aaaaaaaa'), 'a');
  });

  test('take free slots along with any neighbour', () => {
    assert.equal(groups('aaaabbb.'), 'ab');
    assert.equal(groups('aaa.b...'), 'ab');
    assert.equal(groups('ab......'), 'ab......');
    assert.equal(groups('aab.....'), 'ab..');
  });
});
