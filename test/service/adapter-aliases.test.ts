import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { failsWith } from '../app-error.js';
import { sqliteDatabase } from '../registry/stores.js';
import { call, forever, managed, select, settle } from './managed.js';

describe('an alias', () => {
  it('draws for each input by its shares, and the lease says what it led to', async () => {
    let draws = [0, 0.89, 0.9, 0.999];
    const { service } = managed({ random: () => draws.shift()! });
    const a = await service.create({ name: 'a', source: 'a0' }, call());
    const b = await service.create({ name: 'b', source: 'a1' }, call());
    await service.setAlias({ name: 'live', targets: [{ adapter: 'a', share: 9 }, { adapter: 'b' }] }, call());
    const rows = await service.acquire(
      'm',
      [0, 1, 2, 3].flatMap(() => select('live')),
      forever,
    );
    assert.deepEqual(
      rows.map(({ leases: [lease] }) => [lease!.name, lease!.resolved, lease!.digest]),
      [
        ['live', 'a', a.digest],
        ['live', 'a', a.digest],
        ['live', 'b', b.digest],
        ['live', 'b', b.digest],
      ],
    );
    for (const row of rows) row.release();
    draws = [0];
    await service.update({ name: 'a', source: 'a2' }, call());
    const [row] = await service.acquire('m', select('live'), forever);
    assert.equal(row!.leases[0]!.digest, (await service.get({ name: 'a' })).digest, 'it follows the name');
    row!.release();
  });

  it('keeps a version as long as it leads to it', async () => {
    const { service, engine } = managed();
    const first = await service.create({ name: 'a', source: 'a0' }, call());
    await service.setAlias({ name: 'stable', targets: [{ adapter: 'a', digest: first.digest.slice(0, 9) }] }, call());
    const second = await service.update({ name: 'a', source: 'a1' }, call());
    const [row] = await service.acquire('m', select('stable'), forever);
    assert.equal(row!.leases[0]!.digest, first.digest);
    row!.release();
    await settle();
    assert.equal(engine.loaded.size, 2);
    await service.setAlias({ name: 'stable', targets: [{ adapter: 'a' }] }, call());
    await settle();
    assert.deepEqual([...engine.loaded.keys()], [second.digest]);
    await assert.rejects(service.delete({ name: 'a' }, call()), failsWith('ADAPTER_IN_USE', /"stable"/));
    await service.deleteAlias({ name: 'stable' }, call());
    await service.delete({ name: 'a' }, call());
    await settle();
    assert.equal(engine.loaded.size, 0);
    await assert.rejects(service.acquire('m', select('stable'), forever), failsWith('ADAPTER_NOT_REGISTERED'));
  });

  it('never leads to an adapter that is deleted at the same moment', async () => {
    const database = await sqliteDatabase();
    const store = await database.open();
    const { service } = managed({ store });
    await service.open('m', []);
    for (const order of ['alias first', 'delete first']) {
      await service.create({ name: 'a', source: 'a0' }, call());
      const set = () => service.setAlias({ name: 'live', targets: [{ adapter: 'a' }] }, call());
      const remove = () => service.delete({ name: 'a' }, call());
      const both = order === 'alias first' ? [set(), remove()] : [remove(), set()];
      const done = await Promise.allSettled<unknown>(both);
      assert.deepEqual(
        done.map(({ status }) => status),
        ['fulfilled', 'rejected'],
        order,
      );
      if (order === 'delete first') continue;
      (await service.acquire('m', select('live'), forever))[0]!.release();
      await service.deleteAlias({ name: 'live' }, call());
      await service.delete({ name: 'a' }, call());
    }
    await service.close();
    await store.close();
    await database.drop();
  });

  it('is refused where its shares have no finite sum, as nothing could be drawn by them', async () => {
    const { service } = managed();
    await service.create({ name: 'a', source: 'a0' }, call());
    await service.create({ name: 'b', source: 'a1' }, call());
    const targets = ['a', 'b'].map((adapter) => ({ adapter, share: 1e308 }));
    await assert.rejects(
      service.setAlias({ name: 'live', targets }, call()),
      failsWith('INVALID_REQUEST', /^targets have shares whose sum is no finite number/),
    );
    await assert.rejects(
      service.setAlias({ name: 'live', targets: [{ adapter: 'a', share: Number.POSITIVE_INFINITY }] }, call()),
      failsWith('INVALID_REQUEST', /^targets\[0\]\.share is Infinity/),
    );
    await assert.rejects(service.getAlias({ name: 'live' }), failsWith('ALIAS_NOT_FOUND'));
  });

  it('shares the names of adapters', async () => {
    const { service } = managed();
    await service.create({ name: 'a', source: 'a0' }, call());
    await service.setAlias({ name: 'live', targets: [{ adapter: 'a' }] }, call());
    const create = service.create({ name: 'live', source: 'a1' }, call());
    await assert.rejects(create, failsWith('ADAPTER_EXISTS', /^(adapter "live": )?an alias "live" is registered/));
    const setAlias = service.setAlias({ name: 'a', targets: [{ adapter: 'a' }] }, call());
    await assert.rejects(setAlias, failsWith('ADAPTER_EXISTS', /^an adapter "a" is registered/));
    await assert.rejects(service.update({ name: 'live', pin: true }, call()), failsWith('ADAPTER_NOT_FOUND', /alias/));
    for (const targets of [[], [{ adapter: 'a', share: 0 }], [{ adapter: 'a', share: Number.NaN }]]) {
      await assert.rejects(service.setAlias({ name: 'x', targets }, call()), failsWith('INVALID_REQUEST'));
    }
  });
});
