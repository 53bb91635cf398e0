/** The prefix cache: rows share what they would have computed alike, nothing else, within its bytes. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { EngineLoop, type LoopLimits } from '../../server/engine/engine-loop.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { BLOCK } from '../../server/engine/placement.js';
import { type CachedRow, PrefixCache } from '../../server/engine/prefix-cache.js';
import { openGolden } from './golden-model.js';
import { GREEDY, LIMITS, loadAll, run, type TestRow } from './loop-run.js';

/** A row of these tokens under one adapter, or under several from given positions on. */
function rowOf(
  ids: readonly number[],
  adapters: readonly [from: number, key: string][] = [[0, '']],
  ropeKey = '',
): CachedRow {
  return {
    ropeKey,
    idAt: (position) => ids[position]!,
    spanAt: (position) => {
      const index = adapters.findLastIndex(([from]) => from <= position);
      return { adapter: { key: adapters[index]![1] }, until: adapters[index + 1]?.[0] ?? Number.POSITIVE_INFINITY };
    },
  };
}

/** A one-slot store whose position p holds the value p + offset. */
function storeOf(length: number, offset = 0): KvStore {
  const store = new KvStore(1, 1, 1, length);
  const values = Float32Array.from({ length }, (_, p) => p + offset);
  store.append(0, 0, values, values);
  return store;
}

const BLOCK_BYTES = new KvStore(1, 1, 1, BLOCK).bytes;
const ids = (length: number, salt = 0) => Array.from({ length }, (_, i) => i * 31 + salt);
const cache = (blocks: number) => new PrefixCache(() => new KvStore(1, 1, 1, BLOCK), blocks * BLOCK_BYTES);
const all = () => true;

describe('prefix cache', () => {
  const found = (prefixes: PrefixCache, row: CachedRow, length: number, most = length) =>
    prefixes.restore(row, most, new KvStore(1, 1, 1, length), 0);

  test('gives back whole blocks of the longest known prefix, as they were', () => {
    const prefixes = cache(100);
    prefixes.insert(rowOf(ids(100)), 100, storeOf(100, 500), 0, all);
    assert.equal(prefixes.bytes, 3 * BLOCK_BYTES);
    const target = new KvStore(1, 1, 1, 100);
    const longer = [...ids(70), 1, 2, 3, 4, ...ids(50)];
    assert.equal(prefixes.restore(rowOf(longer), longer.length, target, 0), 64);
    assert.deepEqual(
      [...target.keys[0]!.subarray(0, 64)],
      Array.from({ length: 64 }, (_, p) => p + 500),
    );
    assert.equal(target.keys[0]![64], 0);
    assert.equal(found(prefixes, rowOf(ids(96)), 96, 95), 64, 'no more than asked for');
  });

  test('never shares under another selection or another rotary table', () => {
    const prefixes = cache(100);
    prefixes.insert(rowOf(ids(96), [[0, 'aa*1']]), 96, storeOf(96), 0, all);
    assert.equal(found(prefixes, rowOf(ids(96), [[0, 'aa*1']]), 96), 96);
    for (const key of ['', 'ab*1', 'aa*0.5', 'aa*1+ab*1'])
      assert.equal(found(prefixes, rowOf(ids(96), [[0, key]]), 96), 0);
    assert.equal(found(prefixes, rowOf(ids(96), [[0, 'aa*1']], 'beyond'), 96), 0);
  });

  test('shares the base before the point where an activated adapter begins, to the token', () => {
    const prefixes = cache(100);
    prefixes.insert(rowOf(ids(128)), 128, storeOf(128), 0, all);
    assert.equal(
      found(
        prefixes,
        rowOf(ids(128), [
          [0, ''],
          [70, 'aa*1'],
        ]),
        128,
      ),
      64,
    );
    prefixes.insert(
      rowOf(ids(128), [
        [0, ''],
        [70, 'aa*1'],
      ]),
      128,
      storeOf(128),
      0,
      all,
    );
    assert.equal(
      found(
        prefixes,
        rowOf(ids(128), [
          [0, ''],
          [70, 'aa*1'],
        ]),
        128,
      ),
      128,
    );
    assert.equal(
      found(
        prefixes,
        rowOf(ids(128), [
          [0, ''],
          [71, 'aa*1'],
        ]),
        128,
      ),
      64,
    );
    assert.equal(prefixes.bytes, 6 * BLOCK_BYTES, 'the shared beginning is there once');
  });

  test('drops what an adapter had a part in, with all that follows, and takes no more of it', () => {
    const prefixes = cache(100);
    const mixed = rowOf(ids(128), [
      [0, ''],
      [70, 'aa*1+bb*2'],
    ]);
    prefixes.insert(mixed, 128, storeOf(128), 0, all);
    prefixes.drop((key) => key.includes('bb'));
    assert.equal(prefixes.bytes, 2 * BLOCK_BYTES);
    assert.equal(found(prefixes, mixed, 128), 64);
    prefixes.insert(mixed, 128, storeOf(128), 0, (key) => key === '');
    assert.equal(prefixes.bytes, 2 * BLOCK_BYTES);
  });

  test('a budget of nothing keeps nothing', () => {
    const prefixes = cache(0);
    prefixes.insert(rowOf(ids(96)), 96, storeOf(96), 0, all);
    assert.equal(prefixes.bytes, 0);
  });

  test('is a cache: bytes stay bounded, the newest prompt is there, and what it gives is what was put', () => {
    const row = fc.record({
      salt: fc.integer({ min: 0, max: 3 }),
      length: fc.integer({ min: 1, max: 200 }),
      adapter: fc.constantFrom('', 'aa*1', 'bb*1'),
    });
    fc.assert(
      fc.property(fc.array(row, { maxLength: 40 }), fc.integer({ min: 1, max: 12 }), (rows, blocks) => {
        const prefixes = cache(blocks);
        for (const { salt, length, adapter } of rows) {
          // The value of a position is a function of its whole past, as a real key is.
          const offset = salt * 1000 + adapter.length * 10_000;
          const one = rowOf(ids(length, salt), [[0, adapter]]);
          const target = new KvStore(1, 1, 1, length);
          const taken = prefixes.restore(one, length, target, 0);
          assert.deepEqual(
            [...target.values[0]!.subarray(0, taken)],
            ids(taken).map((_, p) => p + offset),
          );
          prefixes.insert(one, length, storeOf(length, offset), 0, all);
          assert.ok(prefixes.bytes <= blocks * BLOCK_BYTES);
          const whole = Math.floor(length / BLOCK);
          assert.equal(found(prefixes, one, length), Math.min(whole, blocks) * BLOCK);
        }
      }),
    );
  });
});

describe('rows over the prefix cache', async () => {
  const model = await openGolden('llama');
  after(() => model.close());
  const { spec } = model.folder;
  const open = async (limits: Partial<LoopLimits>) => {
    const engine = new EngineLoop(model.runner, { ...LIMITS, ...limits });
    return { engine, digests: await loadAll(model, engine) };
  };
  const without = await open({});
  const cached = await open({ prefixBytes: 2 ** 20 });
  const digests = [...without.digests.values()];
  const prompt = (length: number, salt: number) => Array.from({ length }, (_, i) => (i * 7 + salt) % spec.vocabSize);
  const row = (overrides: Partial<TestRow>): TestRow => ({
    promptIds: prompt(80, 1),
    selection: [],
    sampling: { ...GREEDY, logprobs: 0 },
    maxNewTokens: 8,
    arrives: 0,
    ...overrides,
  });

  test('the second row with a prefix computes only what is new, and says so', async () => {
    const { engine } = await open({ prefixBytes: 2 ** 20 });
    const [first] = await run(engine, [row({})]);
    const computed = engine.stats().prefillTokens;
    const [second] = await run(engine, [row({ promptIds: [...prompt(80, 1), 5, 6] })]);
    assert.equal(first!.end!.cachedTokens, 0);
    assert.equal(second!.end!.cachedTokens, 64);
    assert.equal(engine.stats().prefillTokens - computed, 82 - 64);
    assert.equal(engine.stats().cachedTokens, 64);
    assert.ok(engine.stats().prefixBytes > 0);
    assert.equal(engine.stats().kvBytes, 0);
  });

  test('an answer is part of the next prefix', async () => {
    const { engine } = await open({ prefixBytes: 2 ** 20 });
    const [first] = await run(engine, [row({ maxNewTokens: 50 })]);
    const [next] = await run(engine, [row({ promptIds: [...prompt(80, 1), ...first!.tokens, 3] })]);
    assert.equal(next!.end!.cachedTokens, 128);
  });

  test('an unloaded adapter takes its prefixes along, another version finds none', async () => {
    const { engine, digests: loaded } = await open({ prefixBytes: 2 ** 20 });
    const [digest, other] = [...loaded.values()];
    const under = (one: string) => row({ selection: [{ digest: one, weight: 1 }] });
    await run(engine, [under(digest!)]);
    assert.equal((await run(engine, [under(other!)]))[0]!.end!.cachedTokens, 0);
    assert.equal((await run(engine, [under(digest!)]))[0]!.end!.cachedTokens, 64);
    const before = engine.stats().prefixBytes;
    engine.unload(digest!);
    assert.ok(engine.stats().prefixBytes < before);
    for (const entry of Object.values(model.golden.adapters)) {
      if (entry.policy !== 'load') continue;
      const adapter = await model.adapter(entry.path);
      if (adapter.digest === digest) await engine.load(adapter);
    }
    assert.equal((await run(engine, [under(digest!)]))[0]!.end!.cachedTokens, 0);
  });

  test('tokens and log-probabilities are those of rows that compute everything', async () => {
    const rows = fc.array(
      fc.record({
        salt: fc.integer({ min: 0, max: 1 }),
        length: fc.integer({ min: 30, max: 140 }),
        selection: fc.oneof(
          fc.constant([]),
          fc.constantFrom(...digests).map((digest) => [{ digest, weight: 1 }]),
        ),
        arrives: fc.integer({ min: 0, max: 20 }),
        maxNewTokens: fc.integer({ min: 1, max: 12 }),
      }),
      { minLength: 2, maxLength: 10 },
    );
    await fc.assert(
      fc.asyncProperty(rows, async (chosen) => {
        const asked = chosen.map(({ salt, length, ...rest }) => row({ promptIds: prompt(length, salt), ...rest }));
        const wanted = await run(without.engine, asked);
        const got = await run(cached.engine, asked);
        for (const [i, { tokens, logprobs }] of got.entries()) {
          assert.deepEqual(tokens, wanted[i]!.tokens, `row ${i}`);
          for (const [at, logprob] of logprobs.entries())
            assert.ok(Math.abs(logprob! - wanted[i]!.logprobs[at]!) < 1e-3, `row ${i}, token ${at}`);
        }
      }),
      { numRuns: 8 },
    );
    assert.ok(cached.engine.stats().cachedTokens > 300);
  });
});
