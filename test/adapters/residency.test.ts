import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { Residency, type ResidentLease } from '../../server/adapters/residency.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { AppError } from '../../server/errors.js';
import { MemoryEngine } from './memory-engine.js';

const adapter = (digest: string, bytes: number): BoundAdapter => ({
  digest,
  bytes,
  linears: [],
  norms: new Map(),
  features: ['lora'],
  warnings: [],
});
const key = (digest: string) => ({ pool: 'm', digest });

describe('residency', () => {
  it('makes one load of concurrent loads of a digest', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(100);
    const leases = await Promise.all([1, 2, 3].map(() => residency.load('m', engine, adapter('a', 10))));
    assert.equal(engine.loads, 1);
    assert.equal(residency.bytes, 10);
    for (const lease of leases) lease.release();
    await turn();
    assert.equal(engine.unloads, 1, 'nobody names it, so it goes with its last lease');
  });

  it('lets the least recently used go first, never what is leased or pinned', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30);
    for (const digest of ['a', 'b', 'c']) {
      const lease = await residency.load('m', engine, adapter(digest, 10));
      residency.retain(key(digest), digest === 'b');
      lease.release();
    }
    (await residency.join(key('a')))!.release();
    const d = await residency.load('m', engine, adapter('d', 10));
    assert.deepEqual([...engine.loaded.keys()], ['a', 'b', 'd'], 'c was used longest ago');
    const a = (await residency.join(key('a')))!;
    await assert.rejects(residency.load('m', engine, adapter('e', 10)), {
      reason: 'ADAPTER_MEMORY_EXHAUSTED',
      metadata: { needed: '10', used: '30', budget: '30' },
    });
    a.release();
    await residency.load('m', engine, adapter('e', 10));
    assert.deepEqual([...engine.loaded.keys()], ['b', 'd', 'e']);
    d.release();
  });

  it('keeps what is used again and again through a scan of what is used once, until that goes out of use', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(40);
    const use = async (digest: string) => {
      (await (residency.join(key(digest)) ?? residency.load('m', engine, adapter(digest, 10)))).release();
    };
    const digests = Array.from({ length: 200 }, (_, i) => `once${i}`);
    for (const digest of ['often', ...digests]) residency.retain(key(digest), false);
    for (let i = 0; i < 8; i += 1) await use('often');
    for (const digest of digests.slice(0, 20)) await use(digest);
    assert.ok(engine.loaded.has('often'), 'four times as many others were used since');
    for (const digest of digests.slice(20)) await use(digest);
    assert.ok(!engine.loaded.has('often'), 'it does not keep its place for ever');
    // What it was used for before still counts when it comes back.
    for (let i = 0; i < 8; i += 1) await use('often');
    assert.ok(engine.loaded.has('often'));
  });

  it('holds what is asked for most, whatever else comes between', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(100);
    const names = Array.from({ length: 100 }, (_, i) => `d${i}`);
    for (const digest of names) residency.retain(key(digest), false);
    let state = 1;
    const draw = () => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      // Half of all draws fall on the first nine.
      return Math.floor(100 ** (state / 2 ** 32)) - 1;
    };
    for (let i = 0; i < 3000; i += 1) {
      const digest = `d${draw()}`;
      (await (residency.join(key(digest)) ?? residency.load('m', engine, adapter(digest, 10)))).release();
    }
    const wanted = names.slice(0, 6).filter((digest) => engine.loaded.has(digest));
    assert.deepEqual(wanted, names.slice(0, 6));
    // By their last use alone it would be 1,962; the ten that are wanted most take 1,440 at best.
    assert.ok(engine.loads < 1700, `${engine.loads} loads`);
  });

  it('lets what waits for room in when a lease ends, in order, smaller ones beside it', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30);
    const held: ResidentLease[] = [];
    for (const digest of ['a', 'b']) held.push(await residency.load('m', engine, adapter(digest, 12)));
    const order: string[] = [];
    const wait = (digest: string, bytes: number) =>
      residency.load('m', engine, adapter(digest, bytes), { wait: true }).then((lease) => {
        order.push(digest);
        return lease;
      });
    const large = wait('large', 15);
    const next = wait('next', 10);
    const small = wait('small', 5);
    await assert.rejects(residency.load('m', engine, adapter('now', 10)), { reason: 'ADAPTER_MEMORY_EXHAUSTED' });
    (await small).release();
    assert.deepEqual(order, ['small'], 'it fits beside those that are held');
    held[0]!.release();
    (await large).release();
    (await next).release();
    assert.deepEqual(order, ['small', 'large', 'next']);
    assert.ok(engine.peakBytes <= 30);
  });

  it('forgets what waited for a caller that has left, and refuses at once what pinned adapters keep out', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30);
    const lease = await residency.load('m', engine, adapter('a', 20));
    const leaving = new AbortController();
    const { signal } = leaving;
    const left = residency.load('m', engine, adapter('b', 20), { wait: true, signal });
    const behind = residency.load('m', engine, adapter('c', 15), { wait: true });
    leaving.abort(new Error('left'));
    await assert.rejects(left, { message: 'left' });
    await assert.rejects(residency.load('m', engine, adapter('b', 20), { wait: true, signal }), { message: 'left' });
    lease.release();
    (await behind).release();
    const again = await residency.load('m', engine, adapter('a', 20));
    residency.retain(key('a'), true);
    again.release();
    await assert.rejects(residency.load('m', engine, adapter('b', 20), { wait: true }), {
      reason: 'ADAPTER_MEMORY_EXHAUSTED',
      metadata: { needed: '20', used: '20', budget: '30' },
    });
  });

  it('refuses as an overload who comes when as many wait for room as may, and serves those who wait', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30, () => {}, 3);
    const lease = await residency.load('m', engine, adapter('a', 30));
    const waiting = ['b', 'c', 'd'].map((digest) => residency.load('m', engine, adapter(digest, 20), { wait: true }));
    await assert.rejects(residency.load('m', engine, adapter('e', 20), { wait: true }), {
      reason: 'QUEUE_FULL',
      message: /3 other adapters wait/,
    });
    lease.release();
    for (const one of waiting) (await one).release();
    (await residency.load('m', engine, adapter('e', 20), { wait: true })).release();
  });

  it('lets go what is soon there again before what is not', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30);
    for (const [digest, reloadMs] of [
      ['slow', 4000],
      ['quick', 10],
      ['quicker', 9],
    ] as const) {
      residency.retain(key(digest), false);
      (await residency.load('m', engine, adapter(digest, 10), { reloadMs })).release();
    }
    const lease = await residency.load('m', engine, adapter('x', 10));
    assert.deepEqual([...engine.loaded.keys()], ['slow', 'quicker', 'x']);
    lease.release();
  });

  it('evicts nothing for what can never fit, or when told not to', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30);
    residency.retain(key('a'), false);
    (await residency.load('m', engine, adapter('a', 20))).release();
    await assert.rejects(residency.load('m', engine, adapter('huge', 31)), { reason: 'ADAPTER_MEMORY_EXHAUSTED' });
    await assert.rejects(residency.load('m', engine, adapter('b', 20), { evict: false }), {
      reason: 'ADAPTER_MEMORY_EXHAUSTED',
    });
    assert.deepEqual([...engine.loaded.keys()], ['a']);
  });

  it('gives the bytes back when the engine refuses', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30);
    engine.failing.add('a');
    await assert.rejects(residency.load('m', engine, adapter('a', 20)), { reason: 'ENGINE_FAILED' });
    assert.equal(residency.bytes, 0);
    (await residency.load('m', engine, adapter('a', 20))).release();
    assert.equal(engine.loads, 1);
  });

  it('keeps content while any of its names is there', async () => {
    const engine = new MemoryEngine();
    const residency = new Residency(30);
    const lease = await residency.load('m', engine, adapter('a', 20));
    residency.retain(key('a'), false);
    residency.retain(key('a'), true);
    lease.release();
    residency.forget(key('a'), true);
    await turn();
    assert.equal(engine.unloads, 0);
    residency.forget(key('a'), false);
    await turn();
    await turn();
    assert.equal(engine.unloads, 1);
    assert.equal(residency.bytes, 0);
  });

  it('never unloads what is leased and never exceeds the budget, whatever happens in whatever order', async () => {
    const digest = fc.nat(5);
    const step = fc.oneof(
      fc.record({ op: fc.constant('load' as const), digest, fails: fc.boolean(), evict: fc.boolean() }),
      fc.record({ op: fc.constant('release' as const), which: fc.nat(20) }),
      fc.record({ op: fc.constant('again' as const), which: fc.nat(20) }),
      fc.record({ op: fc.constant('retain' as const), digest, pinned: fc.boolean() }),
      fc.record({ op: fc.constant('forget' as const), digest }),
      fc.record({ op: fc.constant('wait' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 20, max: 60 }), async (steps, budget) => {
        const engine = new MemoryEngine();
        const residency = new Residency(budget);
        const bytesOf = (n: number) => 7 + 5 * n;
        const held: { digest: string; lease: ResidentLease }[] = [];
        const names: { digest: string; pinned: boolean }[] = [];
        engine.onUnload = (gone) => assert.ok(!held.some((one) => one.digest === gone), `${gone} is leased`);
        const pending: Promise<unknown>[] = [];
        for (const one of steps) {
          if (one.op === 'load') {
            const name = `d${one.digest}`;
            if (one.fails && !engine.loaded.has(name)) engine.failing.add(name);
            pending.push(
              residency.load('m', engine, adapter(name, bytesOf(one.digest)), { evict: one.evict }).then(
                (lease) => {
                  assert.ok(engine.loaded.has(name), 'a lease on what is not loaded');
                  held.push({ digest: name, lease });
                },
                (error: unknown) => assert.ok(error instanceof AppError && error.spec.retryable, String(error)),
              ),
            );
          } else if (one.op === 'release' && held.length > 0) {
            const [gone] = held.splice(one.which % held.length, 1);
            gone!.lease.release();
            gone!.lease.release();
          } else if (one.op === 'again' && held.length > 0) {
            const { digest: name, lease } = held[one.which % held.length]!;
            held.push({ digest: name, lease: lease.again() });
          } else if (one.op === 'retain') {
            names.push({ digest: `d${one.digest}`, pinned: one.pinned });
            residency.retain(key(`d${one.digest}`), one.pinned);
          } else if (one.op === 'forget') {
            const at = names.findIndex((name) => name.digest === `d${one.digest}`);
            if (at >= 0) residency.forget(key(names[at]!.digest), names.splice(at, 1)[0]!.pinned);
          } else if (one.op === 'wait') await turn();
        }
        await Promise.all(pending);
        for (const { lease } of held.splice(0)) lease.release();
        for (const { digest: name, pinned } of names.splice(0)) residency.forget(key(name), pinned);
        for (let i = 0; i < 5; i += 1) await turn();
        assert.ok(engine.peakBytes <= budget, `${engine.peakBytes} of ${budget}`);
        assert.deepEqual([engine.loaded.size, engine.bytes, residency.bytes], [0, 0, 0], 'everything is given back');
      }),
      { numRuns: 300 },
    );
  });
});
