/** Rows of many selections in pieces: what each row's sum is, and when pieces are taken at all. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type LoraInputs, SlotFeeds, WORTH_PIECES } from '../../server/engine/lora-feeds.js';
import { groupsCost, piecesCost, planPieces } from '../../server/engine/piece-plan.js';
import { BASE_ROW, type LowRank, type RowAdapter } from '../../server/engine/row-adapter.js';
import { rowGroups } from '../../server/engine/row-groups.js';
import type { DecoderGraph } from '../../server/model/decoder-graph.js';
import { pieceInputs } from '../../server/model/graph-pieces.js';
import { siteInputs } from '../../server/model/graph-sites.js';

const SITES = [
  { module: 'layers.0.up', inFeatures: 3, outFeatures: 4 },
  { module: 'layers.0.down', inFeatures: 4, outFeatures: 3 },
].map((site) => ({ ...site, weight: site.module, conv1d: false }));
const LORA = { variant: 'lora', linears: SITES, groupWidths: [] } as unknown as DecoderGraph;
const PIECES = { ...LORA, variant: 'pieces' } as DecoderGraph;

/** A selection of one rank a site; the values of rank r are r + 1 times `value`, so that a sum tells what went into it. */
function selection(key: string, ranks: readonly number[], value: number): RowAdapter {
  const linears = new Map<string, LowRank>();
  for (const [i, { module, inFeatures, outFeatures }] of SITES.entries()) {
    const rank = ranks[i] ?? 0;
    const values = (width: number) =>
      Float32Array.from({ length: rank * width }, (_, at) => value * (1 + Math.floor(at / width)));
    if (rank > 0) linears.set(module, { rank, a: values(inFeatures), b: values(outFeatures) });
  }
  return { ...BASE_ROW, key, linears };
}

/** What the graph of pieces adds at a site for rows of ones, [slots][out]; a row of zeros stays zeros. */
function updates({ feeds }: LoraInputs, slots: number, site: (typeof SITES)[number]): number[][] {
  const [a, b] = [feeds[siteInputs.a(site.module)]!, feeds[siteInputs.b(site.module)]!];
  const [rows, sums] = [feeds[pieceInputs.rows]!, feeds[pieceInputs.sums]!];
  const [pieces, members] = rows.dims as [number, number];
  const rank = a.dims[1]!;
  assert.deepEqual(a.dims, [pieces, rank, site.inFeatures]);
  assert.deepEqual(b.dims, [pieces, rank, site.outFeatures]);
  const results = Array.from({ length: pieces * members }, (_, place) => {
    const y = new Array<number>(site.outFeatures).fill(0);
    const x = Number(rows.data[place]) === slots ? 0 : 1;
    const piece = Math.floor(place / members);
    for (let r = piece * rank; r < (piece + 1) * rank; r += 1) {
      let hidden = 0;
      for (let i = 0; i < site.inFeatures; i += 1) hidden += x * (a.data[r * site.inFeatures + i] as number);
      for (let o = 0; o < site.outFeatures; o += 1) y[o]! += hidden * (b.data[r * site.outFeatures + o] as number);
    }
    return y;
  });
  const levels = sums.dims[1]!;
  return Array.from({ length: slots }, (_, slot) => {
    const places = Array.from(sums.data.slice(slot * levels, (slot + 1) * levels), Number);
    return results[0]!.map((_, o) => places.reduce((sum, place) => sum + results[place]![o]!, 0));
  });
}

/** What a row's own pair adds for a row of ones, [out]. */
function alone(row: RowAdapter | undefined, { module, inFeatures, outFeatures }: (typeof SITES)[number]): number[] {
  const pair = row?.linears.get(module);
  let y = 0;
  for (let r = 0; r < (pair?.rank ?? 0); r += 1) y += inFeatures * pair!.a[r * inFeatures]! * pair!.b[r * outFeatures]!;
  return new Array<number>(outFeatures).fill(y);
}

const eight = (...ranks: number[]) => ranks.map((rank, i) => selection(`s${i}`, [rank, rank], 1));

describe('pieces', () => {
  const rank = fc.oneof(fc.integer({ min: 0, max: 9 }), fc.constantFrom(32, 64));
  const known = fc
    .array(fc.tuple(rank, rank), { minLength: 1, maxLength: 5 })
    .map((all) => [undefined, BASE_ROW, ...all.map((ranks, i) => selection(`s${i}`, ranks, i + 1))]);
  const batch = known.chain((all) =>
    fc.array(fc.array(fc.constantFrom(...all), { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 6 }),
  );

  test('add every row its own pair and nothing else, whatever was fed before', () => {
    let taken = 0;
    fc.assert(
      fc.property(batch, (steps) => {
        const feeds = new SlotFeeds(Number.POSITIVE_INFINITY);
        for (const slots of steps) {
          const inputs = feeds.of(slots, LORA, PIECES);
          if (inputs.variant !== 'pieces') continue;
          taken += 1;
          for (const site of SITES) {
            const sums = updates(inputs, slots.length, site);
            for (const [slot, row] of slots.entries())
              assert.deepEqual(sums[slot], alone(row, site), `slot ${slot}, ${site.module}`);
          }
        }
      }),
      { numRuns: 400 },
    );
    assert.ok(taken > 50, `${taken} steps in pieces: the test shows little`);
  });

  test('never take a place that a piece has left over for zeros: its weights may have overflowed', () => {
    fc.assert(
      fc.property(batch, (steps) => {
        for (const slots of steps) {
          const inputs = new SlotFeeds(Number.POSITIVE_INFINITY).of(slots, LORA, PIECES);
          if (inputs.variant !== 'pieces') continue;
          const rows = Array.from(inputs.feeds[pieceInputs.rows]!.data as BigInt64Array, Number);
          const members = inputs.feeds[pieceInputs.rows]!.dims[1]!;
          const sums = Array.from(inputs.feeds[pieceInputs.sums]!.data as BigInt64Array, Number);
          const levels = inputs.feeds[pieceInputs.sums]!.dims[1]!;
          for (const [at, place] of sums.entries()) {
            if (rows[place] === Math.floor(at / levels)) continue;
            const piece = Math.floor(place / members);
            for (const { module, inFeatures } of SITES) {
              const { data, dims } = inputs.feeds[siteInputs.a(module)]!;
              const size = dims[1]! * inFeatures;
              const values = (data as Float32Array).subarray(piece * size, (piece + 1) * size);
              assert.ok(values.every((value) => value === 0));
            }
          }
        }
      }),
    );
  });

  test('of mixed ranks hold little more than these, however large one of them is', () => {
    const rows = [...eight(8, 8, 8, 8, 8, 8, 8), selection('wide', [128, 128], 1)];
    const { pieces } = planPieces(rows)!;
    const widest = Math.max(
      ...pieces.map(({ adapter, parts }) => (adapter.linears.get('layers.0.up')?.rank ?? 0) / parts),
    );
    assert.ok(pieces.length * widest <= 1.1 * (7 * 8 + 128), `${pieces.length} pieces of ${widest}`);
  });

  /** Of linears as wide as those of a model of 135 million weights; only their widths count. */
  const taken = (rows: readonly (RowAdapter | undefined)[]) => {
    const linears = SITES.map((site) => ({ ...site, inFeatures: 576, outFeatures: 1536 }));
    return piecesCost(planPieces(rows)!, rows.length, linears) <=
      WORTH_PIECES * groupsCost(rowGroups(rows), rows.length, linears)
      ? 'pieces'
      : 'lora';
  };
  const [a, b, c] = eight(16, 16, 16) as [RowAdapter, RowAdapter, RowAdapter];
  const times = (count: number, row: RowAdapter | undefined) => new Array<RowAdapter | undefined>(count).fill(row);

  test('are taken for mixed ranks, uneven shares and a few adapted rows among base rows', () => {
    assert.equal(taken(eight(8, 8, 16, 16, 32, 32, 64, 64)), 'pieces');
    assert.equal(taken([...times(11, a), ...times(5, b)]), 'pieces');
    assert.equal(taken([a, ...times(14, BASE_ROW), b]), 'pieces');
  });

  test('are not taken where even groups read no more', () => {
    assert.equal(taken(eight(16, 16, 16, 16, 16, 16, 16, 16)), 'lora');
    assert.equal(taken([a, a, b, b, c, c, undefined, undefined]), 'lora');
    assert.equal(taken([a, b]), 'lora');
  });

  test('leave weights where they lie when a row goes', () => {
    const rows = eight(8, 16, 32, 64, 64, 32, 16, 8);
    const feeds = new SlotFeeds(Number.POSITIVE_INFINITY);
    const before = feeds.of(rows, LORA, PIECES).feeds;
    const after = feeds.of([undefined, ...rows.slice(1)], LORA, PIECES).feeds;
    const [held, now] = [before, after].map((inputs) => inputs[siteInputs.a('layers.0.up')]!);
    assert.equal((now!.data as Float32Array).buffer, (held!.data as Float32Array).buffer);
  });

  test('are weighed against groups by the linears at hand: ranks may differ by linear', () => {
    const rows = [selection('up', [64, 0], 1), ...eight(8, 8, 8)];
    assert.equal(groupsCost(rowGroups(rows), 4, SITES), 4 * (64 + 8) * 7);
    assert.equal(groupsCost(rowGroups(rows), 4, [SITES[0]!]), 4 * 64 * 7);
  });
});
