/** Adapters that a crash left without the workflow that registered them. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryStore } from '../../server/registry/memory-store.js';
import { LateStore } from './late-store.js';
import { call, managed } from './managed.js';

/** Adapters of two workflows and of a client in a store, and a service that opens it, as after a crash. */
async function restarted() {
  const store = new MemoryStore();
  const before = managed({ store }).service;
  await before.open('m', []);
  await before.create({ name: 'one', source: 'a0', workflow: 'first' }, call());
  await before.create({ name: 'two', source: 'a1', workflow: 'second/2' }, call());
  await before.update({ name: 'two', pin: true }, call());
  await before.create({ name: 'three', source: 'a2' }, call());
  await before.close();
  const { service } = managed({ store });
  const names = async () => (await service.list({ pageSize: 10 })).adapters.map(({ name }) => name);
  return { store, service, names };
}

describe('news of the registry that comes late', () => {
  it('does not bring back an adapter that was deleted since', async () => {
    const store = new LateStore();
    const { service } = managed({ store });
    await service.open('m', []);
    await service.create({ name: 'a', source: 'a0' }, call());
    const key = { kind: 'adapter', scope: 'm', name: 'a' };
    const record = await store.get(key);
    await service.delete({ name: 'a' }, call());
    await store.tell([{ key, record, revision: record!.revision }]);
    assert.deepEqual((await service.list({ pageSize: 10 })).adapters, []);
  });
});

describe('adapters that workflows left', () => {
  it('go at the start, and those of clients and of registered workflows stay', async () => {
    const { store, service, names } = await restarted();
    await service.open('m', []);
    await service.removeLeftovers({ owned: new Set(['one']), olderThanMs: 0 }, call());
    assert.deepEqual(await names(), ['one', 'three']);
    assert.deepEqual(
      (await store.list('adapter')).records.map(({ name }) => name),
      ['one', 'three'],
    );
  });

  it('go from the registry where their model is not served', async () => {
    const { store, service } = await restarted();
    await service.removeLeftovers({ owned: new Set(), olderThanMs: 0 }, call());
    assert.deepEqual(
      (await store.list('adapter')).records.map(({ name }) => name),
      ['three'],
    );
  });

  it('stay while another process may still be registering their workflow', async () => {
    const { service, names } = await restarted();
    await service.open('m', []);
    await service.removeLeftovers({ owned: new Set(), olderThanMs: 60_000 }, call());
    assert.deepEqual(await names(), ['one', 'three', 'two']);
  });
});
