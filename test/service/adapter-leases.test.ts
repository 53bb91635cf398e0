/** Leases: every adapter of every row or none, within the budget, and what waits for room. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { prepareAdapter } from '../../server/adapters/prepare-adapter.js';
import { validateAdapter } from '../../server/adapters/validate-adapter.js';
import type { AppError } from '../../server/errors.js';
import { pair, writeAdapter } from '../adapters/adapter-files.js';
import { failsWith } from '../app-error.js';
import { BYTES, call, dir, forever, select, settle, setup } from './adapter-books.js';

describe('leases', () => {
  it('name every unknown adapter, and near names', async () => {
    const { service } = setup();
    for (const name of ['french', 'german']) await service.create({ name, source: 'a0' }, call());
    await assert.rejects(
      service.acquire('m', [...select('frech'), [], ...select('german', 'zzzzzzzz')], forever),
      (error: AppError) => {
        assert.equal(error.reason, 'ADAPTER_NOT_REGISTERED');
        assert.deepEqual(error.metadata, { adapter: 'frech,zzzzzzzz', model: 'm', near: 'french' });
        return true;
      },
    );
    assert.equal((await service.get({ name: 'german' })).runningRows, 0, 'nothing was leased');
    await assert.rejects(service.acquire('other', [[]], forever), failsWith('MODEL_NOT_FOUND'));
  });

  it('carry digest and weight in the order of the request, and count running rows', async () => {
    const { service } = setup();
    const one = await service.create({ name: 'one', source: 'a0' }, call());
    const two = await service.create({ name: 'two', source: 'a1' }, call());
    const selection = [
      { name: 'two', weight: -0.5 },
      { name: 'one', weight: 2 },
      { name: 'two', weight: 1 },
    ];
    const [mixed, plain] = await service.acquire('m', [selection, []], forever);
    assert.deepEqual(
      mixed?.leases.map(({ name, digest, weight }) => [name, digest, weight]),
      [
        ['two', two.digest, -0.5],
        ['one', one.digest, 2],
        ['two', two.digest, 1],
      ],
    );
    assert.deepEqual(plain?.leases, []);
    assert.equal((await service.get({ name: 'two' })).runningRows, 1);
    mixed?.release();
    mixed?.release();
    const info = await service.get({ name: 'two' });
    assert.equal(info.runningRows, 0);
    assert.ok(info.lastUsedAt !== undefined);
  });

  it('keep a deleted adapter until the last row has ended; new requests no longer find it', async () => {
    const { service, engine } = setup();
    const { digest } = await service.create({ name: 'a', source: 'a0' }, call());
    const [row] = await service.acquire('m', select('a'), forever);
    const deleted = await service.delete({ name: 'a' }, call());
    assert.deepEqual([deleted.state, deleted.runningRows], ['deleting', 1]);
    await assert.rejects(service.acquire('m', select('a'), forever), failsWith('ADAPTER_NOT_REGISTERED'));
    await assert.rejects(service.delete({ name: 'a' }, call()), failsWith('ADAPTER_NOT_FOUND'));
    await settle();
    assert.ok(engine.loaded.has(digest));
    const again = await service.create({ name: 'a', source: 'a1' }, call());
    assert.notEqual(again.digest, digest);
    row?.release();
    await settle();
    assert.deepEqual([...engine.loaded.keys()], [again.digest]);
  });

  it('load again what was evicted, and refuse what cannot fit with the numbers', async () => {
    const { service, engine } = setup(2 * BYTES);
    for (const name of ['a0', 'a1', 'a2']) await service.create({ name, source: name }, call());
    assert.equal((await service.get({ name: 'a0' })).state, 'registered', 'evicted, not forgotten');
    const [row] = await service.acquire('m', select('a0', 'a2'), forever);
    await assert.rejects(service.acquire('m', select('a1'), forever), (error: AppError) => {
      assert.equal(error.reason, 'ADAPTER_MEMORY_EXHAUSTED');
      const { needed, used, budget } = error.metadata;
      assert.deepEqual([needed, used, budget], [String(BYTES), String(2 * BYTES), String(2 * BYTES)]);
      return true;
    });
    await assert.rejects(
      service.acquire('m', select('a0', 'a1', 'a2'), forever),
      failsWith('ADAPTER_MEMORY_EXHAUSTED'),
    );
    row?.release();
    (await service.acquire('m', select('a1'), forever))[0]?.release();
    await settle();
    assert.ok(engine.peakBytes <= 2 * BYTES);
    assert.equal((await service.get({ name: 'a1' })).state, 'ready');
  });

  it('wait for room that other rows use, and read nothing meanwhile', async () => {
    const { service, engine, reader } = setup(2 * BYTES, { roomWaitMs: 30_000 });
    for (const name of ['a0', 'a1', 'a2']) await service.create({ name, source: name }, call());
    const [first, second] = await service.acquire('m', [...select('a0'), ...select('a1')], forever);
    const { reads } = reader;
    let got = false;
    const waiting = service.acquire('m', select('a2'), forever).then((rows) => {
      got = true;
      return rows;
    });
    const held = await service.acquire('m', select('a0'), forever);
    await settle();
    assert.deepEqual([got, reader.reads], [false, reads], 'rows of adapters that are there are not held back');
    second!.release();
    for (const { release } of await waiting) release();
    assert.ok(engine.peakBytes <= 2 * BYTES);
    for (const { release } of [first!, ...held]) release();
  });

  it('of a client that leaves wait for no room: nothing is read for it, and who came after it goes on', async () => {
    const { service, reader } = setup(BYTES, { roomWaitMs: 60_000 });
    for (const name of ['a0', 'a1', 'a2']) await service.create({ name, source: name }, call());
    const [busy] = await service.acquire('m', select('a0'), forever);
    const { reads } = reader;
    const [leaving, staying] = [new AbortController(), new AbortController()];
    const gone = service.acquire('m', select('a1'), leaving);
    const alsoGone = service.acquire('m', select('a1'), leaving);
    const shared = service.acquire('m', select('a2'), leaving);
    const next = service.acquire('m', select('a2'), staying);
    await settle();
    leaving.abort();
    for (const asked of [gone, alsoGone, shared]) await assert.rejects(asked, failsWith('CANCELED'));
    busy!.release();
    (await next)[0]!.release();
    assert.equal(reader.reads, reads + 1);
    assert.equal((await service.get({ name: 'a1' })).state, 'registered');
    const [again] = await service.acquire('m', select('a1'), forever);
    again!.release();
  });

  it('of an adapter that a client left in the same turn are had by who asks for it then', async () => {
    const { service } = setup(BYTES, { roomWaitMs: 60_000 });
    for (const name of ['a0', 'a1']) await service.create({ name, source: name }, call());
    const [busy] = await service.acquire('m', select('a0'), forever);
    const leaving = new AbortController();
    const gone = assert.rejects(service.acquire('m', select('a1'), leaving), failsWith('CANCELED'));
    await settle();
    leaving.abort();
    const asked = service.acquire('m', select('a1'), forever);
    await gone;
    busy!.release();
    (await asked)[0]!.release();
  });

  it('of several adapters keep nobody waiting once their client has left', async () => {
    const { service, reader } = setup(2 * BYTES, { roomWaitMs: 60_000 });
    for (let i = 0; i < 5; i += 1) await service.create({ name: `a${i}`, source: `a${i}` }, call());
    const [busy] = await service.acquire('m', select('a0'), forever);
    const { reads } = reader;
    const leaving = new AbortController();
    const gone = [select('a1', 'a2'), select('a3', 'a2')].map((set) =>
      assert.rejects(service.acquire('m', set, leaving), failsWith('CANCELED')),
    );
    const next = service.acquire('m', select('a3', 'a4'), forever);
    await settle();
    leaving.abort();
    await Promise.all(gone);
    busy!.release();
    (await next)[0]!.release();
    assert.ok(reader.reads <= reads + 3, 'one of the first set had room beside the busy one, then those that were had');
  });

  it('wait as long as their deadline, where there is one, and else not for ever, though others wait longer', async () => {
    const { service } = setup(BYTES, { roomWaitMs: 10 });
    for (const name of ['a0', 'a1']) await service.create({ name, source: name }, call());
    const [busy] = await service.acquire('m', select('a0'), forever);
    const deadline = performance.timeOrigin + performance.now() + 60_000;
    const patient = service.acquire('m', select('a1'), { ...forever, deadline });
    // The timers of those who wait do not keep the test alive.
    const alive = setInterval(() => {}, 1000);
    const tooLong = failsWith('ADAPTER_MEMORY_EXHAUSTED', /did not change within 10 ms/);
    const impatient = select('a1');
    for (let i = 0; i < 2; i += 1) await assert.rejects(service.acquire('m', impatient, forever), tooLong);
    busy!.release();
    (await patient)[0]!.release();
    const [other] = await service.acquire('m', select('a0'), forever);
    await assert.rejects(service.acquire('m', impatient, forever), tooLong);
    clearInterval(alive);
    other!.release();
  });

  it('wait for room also where a change of settings began to load the adapter, and would not wait', async () => {
    const { service, engine } = setup(BYTES, { roomWaitMs: 60_000 });
    for (const [name, source] of [
      ['a', 'a0'],
      ['b', 'a1'],
    ] as const) {
      await service.create({ name, source }, call());
    }
    const [busy] = await service.acquire('m', select('b'), forever);
    const pinning = service.update({ name: 'a', pin: true }, call());
    await turn();
    const row = service.acquire('m', select('a'), forever);
    await assert.rejects(pinning, failsWith('ADAPTER_MEMORY_EXHAUSTED'));
    await settle();
    busy!.release();
    (await row)[0]!.release();
    assert.equal(engine.loaded.size, 1);
  });

  it('are refused at once where adapters that are pinned leave no room for all of a request', async () => {
    const { service } = setup(3 * BYTES, { roomWaitMs: 1_000 });
    for (const [i, name] of ['kept', 'also-kept', 'a', 'b'].entries()) {
      await service.create({ name, source: `a${i}`, pin: i < 2 }, call());
    }
    await assert.rejects(
      service.acquire('m', [...select('a'), ...select('b')], forever),
      failsWith('ADAPTER_MEMORY_EXHAUSTED', /with the 1 others .* beside adapters that are pinned/),
    );
    for (const row of await service.acquire('m', [...select('a'), ...select('kept', 'also-kept')], forever))
      row.release();
  });

  it('never wait for each other, however many adapters each needs', async () => {
    const { service, engine } = setup(3 * BYTES, { roomWaitMs: 30_000 });
    for (let i = 0; i < 5; i += 1) await service.create({ name: `a${i}`, source: `a${i}`, preload: false }, call());
    const set = fc.uniqueArray(fc.nat(4), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(fc.array(set, { maxLength: 8 }), async (sets) => {
        const use = async (ids: readonly number[]) => {
          const rows = await service.acquire('m', select(...ids.map((i) => `a${i}`)), forever);
          await turn();
          for (const { release } of rows) release();
        };
        await Promise.all(sets.map(use));
      }),
      { numRuns: 50 },
    );
    assert.ok(engine.peakBytes <= 3 * BYTES);
    const all = service.acquire('m', select('a0', 'a1', 'a2', 'a3'), forever);
    await assert.rejects(all, failsWith('ADAPTER_MEMORY_EXHAUSTED'), 'what can never fit is not waited for');
  });

  it('refuse pin without preload, and register nothing', async () => {
    const { service } = setup();
    await assert.rejects(
      service.create({ name: 'a', source: 'a0', pin: true, preload: false }, call()),
      failsWith('INVALID_REQUEST', /pin/),
    );
    assert.deepEqual((await service.list({})).adapters, []);
  });

  it('never evict what is pinned', async () => {
    const { service } = setup(2 * BYTES);
    await service.create({ name: 'pinned', source: 'a0', pin: true }, call());
    for (const name of ['a1', 'a2', 'a3']) await service.create({ name, source: name }, call());
    assert.equal((await service.get({ name: 'pinned' })).state, 'ready');
  });

  it('refuse an adapter whose files changed since it was registered', async () => {
    writeAdapter(join(dir, 'changing'), {}, 20);
    const { service } = setup(BYTES);
    await service.create({ name: 'changing', source: 'changing' }, call());
    await service.create({ name: 'other', source: 'a1' }, call());
    writeAdapter(join(dir, 'changing'), {}, 21);
    const asked = () => service.acquire('m', select('changing'), forever);
    await assert.rejects(asked(), failsWith('ADAPTER_FAILED', /changed since it was registered/));
    const info = await service.get({ name: 'changing' });
    assert.equal(info.state, 'failed');
    assert.match(info.error ?? '', /changed/);
  });

  it('read files again once they are others than those that failed, and not before', async () => {
    const folder = join(dir, 'returning');
    writeAdapter(folder, {}, 22);
    const { service, reader, logged } = setup(BYTES);
    const { digest } = await service.create({ name: 'returning', source: 'returning' }, call());
    await service.create({ name: 'other', source: 'a1' }, call());
    const ask = async () => {
      const [lease] = await service.acquire('m', select('returning'), forever);
      lease!.release();
      return lease!.leases[0]!.digest;
    };
    const kept = join(dir, 'kept');
    renameSync(folder, kept);
    await assert.rejects(ask(), failsWith('ADAPTER_FAILED'), 'gone');
    writeAdapter(folder, {}, 23);
    const changed = failsWith('ADAPTER_FAILED', /changed since it was registered.*put those back, or update/);
    await assert.rejects(ask(), changed);
    const before = reader.reads;
    for (let i = 0; i < 3; i += 1) await assert.rejects(ask(), changed, 'what failed is not read for every request');
    assert.equal(reader.reads, before);
    writeAdapter(folder, {}, 24);
    await assert.rejects(ask(), changed, 'other content again');
    assert.equal(reader.reads, before + 1);
    rmSync(folder, { recursive: true });
    renameSync(kept, folder);
    assert.deepEqual(await Promise.all([ask(), ask(), ask()]), [digest, digest, digest]);
    assert.equal(reader.reads, before + 2);
    assert.equal((await service.get({ name: 'returning' })).state, 'ready');
    const told = logged.filter((line) => line.includes('failed to load'));
    assert.equal(told.length, 3, 'the log has each failure once, and not for every request');
    assert.match(told[0]!, /"returning" failed to load: .*does not exist/);
    assert.match(told[1]!, /changed since it was registered/);
  });

  it('take a folder that was mended after the start', async () => {
    const start = join(dir, 'start');
    const folder = join(start, 'mended');
    mkdirSync(folder, { recursive: true });
    writeAdapter(folder, { tensors: pair('model.layers.0.self_attn.q_proj', 2, 48, 48) });
    const { service } = setup();
    const [info] = await service.loadDirectory('m', start);
    assert.equal(info!.state, 'failed');
    await assert.rejects(service.acquire('m', select('mended'), forever), failsWith('ADAPTER_FAILED'));
    writeAdapter(folder, {}, 25);
    const [lease] = await service.acquire('m', select('mended'), forever);
    lease!.release();
    assert.deepEqual((await service.get({ name: 'mended' })).error, undefined);
  });

  it('end early for a client that leaves, and leave nothing leased', async () => {
    const { service, engine } = setup();
    await service.create({ name: 'lazy', source: 'a0', preload: false }, call());
    const client = new AbortController();
    const asked = service.acquire('m', select('lazy'), client);
    client.abort();
    await assert.rejects(asked, failsWith('CANCELED'));
    while (engine.loads === 0) await turn();
    await settle();
    await service.delete({ name: 'lazy' }, call());
    await settle();
    assert.equal(engine.loaded.size, 0, 'no lease is left to keep it');
  });
});

it('a row is not refused the memory that it has because a registration of equal content finds none', async () => {
  const gates: (() => void)[] = [];
  let gated = false;
  const reader = {
    read: async (...[request, on]: Parameters<typeof prepareAdapter>) => {
      const read = await prepareAdapter(request, on);
      if (gated) await new Promise<void>((resolve) => gates.push(resolve));
      return read;
    },
    validate: validateAdapter,
    close: async () => {},
  };
  // Beside the row's there is only room for the small one.
  const { service, engine } = setup(BYTES + BYTES / 2, { roomWaitMs: 60_000, reader });
  await service.create({ name: 'a', source: 'a0' }, call());
  await service.create({ name: 'b', source: 'a1' }, call());
  await service.create({ name: 'half', source: 'half' }, call());
  gated = true;
  const row = service.acquire('m', select('a'), forever);
  while (gates.length < 1) await settle();
  const unload = engine.unload.bind(engine);
  let goOn = () => {};
  const going = new Promise<void>((going) => {
    engine.unload = async (digest) => {
      going();
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
      await unload(digest);
    };
  });
  const other = service.acquire('m', select('b'), forever);
  await going;
  engine.unload = unload;
  const created = service.create({ name: 'c', source: 'twin' }, call()).catch(() => {});
  while (gates.length < 2) await settle();
  // The registration finds that another row waits before it; meanwhile the first row comes with the same content.
  gated = false;
  for (const at of [1, 0]) {
    gates[at]!();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  goOn();
  (await other)[0]!.release();
  (await row)[0]!.release();
  await created;
});
