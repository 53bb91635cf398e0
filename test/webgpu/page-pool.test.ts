/** Pages and who holds them. The processor provider moves them here: the graphs are the device's. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { GpuDevice } from '../../server/engine/webgpu/gpu-device.js';
import { GpuQueue } from '../../server/engine/webgpu/gpu-queue.js';
import type { Step } from '../../server/engine/webgpu/gpu-step.js';
import { PagePool, SCRATCH } from '../../server/engine/webgpu/page-pool.js';
import { PagedStore } from '../../server/engine/webgpu/paged-store.js';
import type { DecoderSpec } from '../../server/model/spec.js';
import { hasPagedAttention, PAGE, pageInputs, poolNames } from '../../server/model/webgpu/paged-attention.js';

/** As much of a model as a pool needs: two layers whose positions have two values. */
const SPEC = { layers: [{}, {}], kvHeads: 1, headDim: 2 } as unknown as DecoderSpec;
const NAMES = [0, 1].flatMap((layer) => [poolNames.keys(layer), poolNames.values(layer)]);

test('models with soft caps or with heads of odd widths are not for pages', () => {
  const of = (headDim: number, softcap?: number) =>
    hasPagedAttention({ headDim, layers: [{ attention: { softcap } }] } as unknown as DecoderSpec);
  assert.deepEqual([of(64), of(64, 50), of(20)], [true, false, false]);
});

describe('pages of rows', () => {
  let device: GpuDevice;
  let queue: GpuQueue;
  let pool: PagePool;
  before(async () => {
    device = new GpuDevice('cpu');
    queue = new GpuQueue();
    pool = await PagePool.open(device, queue, SPEC);
  });
  after(() => device.close());

  const store = (slots: number) => new PagedStore(device, pool, slots, PAGE);
  const stepOf = (lengths: readonly number[], tokens: number, free: readonly number[] = []): Step => ({
    batch: lengths.length,
    ids: new Array<number>(lengths.length * tokens).fill(0),
    positions: Int32Array.of(),
    lengths: Int32Array.from(lengths),
    free: new Set(free),
    adapters: [],
    logitRows: [],
    horizonOf: () => 0,
  });
  const tableOf = (of: PagedStore, step: Step) => {
    const { feeds } = of.bindings(step);
    const table = feeds[pageInputs.table]!;
    return { pages: table.data as Int32Array, width: table.dims[1]! };
  };
  /** Positions of a slot as the kernel would find them: the first value of the keys of layer 0. */
  const read = (of: PagedStore, slot: number, length: number): number[] => {
    if (length === 0) return [];
    const step = stepOf(new Array<number>(of.slots).fill(length - 1), 1);
    const { pages, width } = tableOf(of, step);
    return Array.from({ length }, (_, at) => {
      const place = (pages[slot * width + Math.floor(at / PAGE)]! * PAGE + (at % PAGE)) * 2;
      const [first, ...others] = NAMES.map((name) => (pool.feeds[name]!.data as Uint16Array)[place]!);
      assert.ok(
        others.every((other, i) => other === first! + i + 1),
        'all layers move together',
      );
      return first!;
    });
  };
  /** Appends values as a step does: one after the other from position `length` on. */
  const append = async (of: PagedStore, slot: number, length: number, values: readonly number[]): Promise<void> => {
    const free = Array.from({ length: of.slots }, (_, other) => other).filter((other) => other !== slot);
    const lengths = Array.from({ length: of.slots }, (_, other) => (other === slot ? length : 0));
    const step = stepOf(lengths, values.length, free);
    of.prepare(step);
    await queue.drained();
    const { pages, width } = tableOf(of, step);
    for (const [i, value] of values.entries()) {
      const at = length + i;
      const place = (pages[slot * width + Math.floor(at / PAGE)]! * PAGE + (at % PAGE)) * 2;
      for (const [layer, name] of NAMES.entries()) (pool.feeds[name]!.data as Uint16Array)[place] = value + layer;
    }
  };

  test('a row that moves to another store takes its pages along, and copies none', async () => {
    const [from, to] = [store(1), store(3)];
    const values = Array.from({ length: 2 * PAGE + 5 }, (_, i) => 100 + i);
    await append(from, 0, 0, values);
    const held = pool.held;
    from.copyStretch({ slot: 0, from: 0, count: values.length }, to, 2, 0);
    from.release();
    assert.equal(pool.held, held);
    assert.deepEqual(read(to, 2, values.length), values);
    to.release();
    assert.equal(pool.held, 0);
  });

  test('of two rows that share a page begun, the one that writes to it first gets a copy', async () => {
    const [first, second] = [store(1), store(1)];
    await append(first, 0, 0, [7, 8, 9]);
    first.copyStretch({ slot: 0, from: 0, count: 3 }, second, 0, 0);
    assert.equal(pool.held, 1);
    await append(second, 0, 3, [20]);
    await append(first, 0, 3, [30]);
    assert.equal(pool.held, 2);
    assert.deepEqual(read(first, 0, 4), [7, 8, 9, 30]);
    assert.deepEqual(read(second, 0, 4), [7, 8, 9, 20]);
    first.release();
    second.release();
  });

  test('free slots have the page that nobody reads, and take no memory', async () => {
    const some = store(4);
    await append(some, 1, 0, [5]);
    const { pages } = tableOf(some, stepOf([0, 1, 0, 0], 1, [0, 2, 3]));
    assert.deepEqual(
      [...pages].map((page) => page === SCRATCH),
      [true, false, true, true],
    );
    assert.equal(pool.held, 1);
    some.release();
  });

  test('every page that is taken lies in the pool, the last ones before it grows too', async () => {
    const taken: number[] = [];
    for (let count = 0; count < 40; count += 1) {
      const page = pool.take();
      taken.push(page);
      await queue.drained();
      for (const tensor of Object.values(pool.feeds)) assert.ok(page < tensor.dims[0]!, `page ${page}`);
    }
    assert.equal(new Set([SCRATCH, ...taken]).size, 41);
    for (const page of taken) pool.drop(page);
  });

  test('the pool grows while rows are in it, and gives every page back', async () => {
    const long = store(2);
    const values = Array.from({ length: 40 * PAGE }, (_, i) => 1 + (i % 60_000));
    await append(long, 0, 0, [3, 4]);
    await append(long, 1, 0, values);
    assert.deepEqual(read(long, 1, values.length), values);
    assert.deepEqual(read(long, 0, 2), [3, 4]);
    long.release();
    assert.equal(pool.held, 0);
    assert.equal(device.usage.buffers, 0, 'on the processor nothing is a buffer');
  });

  test('what a device refuses is told by the step that needs it, and by every one behind it', async () => {
    const poor = await PagePool.open(device, queue, SPEC);
    const rows = new PagedStore(device, poor, 1, PAGE);
    rows.prepare(stepOf([0], 4));
    await queue.drained();
    assert.equal(rows.broken, undefined);
    // Any refusal will do: here the provider is asked for a page far behind the last one.
    poor.copy([{ page: 1 << 30, offset: 0 }], [{ page: 1, offset: 0 }]);
    await queue.drained();
    assert.equal(rows.broken, 'failed');
    assert.throws(() => rows.bindings(stepOf([0], 1)));
    rows.release();
  });

  test('whatever stores are asked for, every row keeps its values, and no page is lost', async () => {
    const slot = fc.nat({ max: 2 });
    const operation = fc.oneof(
      fc.record({ kind: fc.constant('append' as const), store: slot, slot, count: fc.integer({ min: 1, max: 70 }) }),
      fc.record({
        kind: fc.constant('copy' as const),
        store: slot,
        slot,
        to: slot,
        target: slot,
        from: fc.nat(99),
        at: fc.nat(99),
        count: fc.nat(80),
      }),
      fc.record({
        kind: fc.constant('reshape' as const),
        store: slot,
        sources: fc.array(fc.option(slot, { nil: undefined }), { minLength: 3, maxLength: 3 }),
      }),
      fc.record({ kind: fc.constant('release' as const), store: slot }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 25 }), async (operations) => {
        let next = 1;
        const stores = Array.from({ length: 3 }, () => ({ store: store(3), rows: [[], [], []] as number[][] }));
        for (const asked of operations) {
          const mine = stores[asked.store]!;
          if (asked.kind === 'append') {
            const values = Array.from({ length: asked.count }, () => (next = (next % 60_000) + 1));
            await append(mine.store, asked.slot, mine.rows[asked.slot]!.length, values);
            mine.rows[asked.slot] = [...mine.rows[asked.slot]!, ...values];
          } else if (asked.kind === 'copy') {
            const other = stores[asked.to]!;
            const [source, target] = [mine.rows[asked.slot]!, other.rows[asked.target]!];
            if (asked.to === asked.store && asked.target === asked.slot) continue;
            const whole = asked.count % 2 === 0;
            const from = Math.min(asked.from, source.length) - (whole ? Math.min(asked.from, source.length) % PAGE : 0);
            const at = Math.min(asked.at, target.length) - (whole ? Math.min(asked.at, target.length) % PAGE : 0);
            const count = Math.min(asked.count, source.length - from);
            mine.store.copyStretch({ slot: asked.slot, from, count }, other.store, asked.target, at);
            // What lay behind the stretch is the target's no more: rows are copied to where they end.
            if (count > 0) other.rows[asked.target] = [...target.slice(0, at), ...source.slice(from, from + count)];
          } else if (asked.kind === 'reshape') {
            const length = Math.max(0, ...mine.rows.map((row) => row.length));
            mine.store.reshape(3, length, asked.sources, length);
            mine.rows = asked.sources.map((source) => (source === undefined ? [] : mine.rows[source]!));
          } else {
            mine.store.release();
            stores[asked.store] = { store: store(3), rows: [[], [], []] };
          }
          await queue.drained();
          for (const { store: held, rows } of stores)
            for (const [at, row] of rows.entries()) assert.deepEqual(read(held, at, row.length), row);
        }
        for (const { store: held } of stores) held.release();
        assert.equal(pool.held, 0);
      }),
      { numRuns: 40 },
    );
  });
});
