/** Models that are kept, and changes of the registry that are told late, as they are while others are dealt with. */
import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import type { AppError } from '../../server/errors.js';
import { MemoryStore } from '../../server/registry/memory-store.js';
import { KeptRecords } from '../../server/service/kept-records.js';
import type { LoadModelOptions } from '../../server/service/load-model.js';
import { ModelManager } from '../../server/service/model-manager.js';
import { ModelPool } from '../../server/service/model-pool.js';
import { ModelUses } from '../../server/service/model-uses.js';
import type { ServedModel } from '../../server/service/served-models.js';
import { LateStore } from './late-store.js';
import { memoryModel } from './memory-model.js';

const call = { requestId: 'test', signal: new AbortController().signal };

async function setup(store: MemoryStore = new LateStore()) {
  const adapters = { addModel() {}, removeModel() {}, open: async () => {}, clear: async () => {} };
  const manager = new ModelManager({
    pool: new ModelPool(async ({ name }) => memoryModel(name), new ModelUses(), 0),
    models: new Map(),
    adapters,
    open: async (path, name) => ({
      options: { name, path, loraEnabled: true } as LoadModelOptions,
      adapterFolders: [],
      warnings: [],
    }),
    served: () => ({}) as ServedModel,
    kept: new KeptRecords(store, 'model'),
    log: { info() {}, warn() {} },
  });
  await manager.restore();
  const key = { kind: 'model', scope: '', name: 'm' };
  const names = () => manager.list().map(({ name }) => name);
  return { manager, key, names, adapters };
}

/** One server, told late. */
async function lateSetup() {
  const store = new LateStore();
  return { store, ...(await setup(store)) };
}

describe('changes of the registry that are told late', () => {
  it('do not take away what was registered since', async () => {
    const { store, manager, key, names } = await lateSetup();
    await manager.register({ url: '/m' }, call);
    await manager.unregister('m', call);
    const { revision } = await store.list('model');
    await manager.register({ url: '/m' }, call);
    await store.tell([{ key, record: undefined, revision }]);
    assert.deepEqual(names(), ['m']);
  });

  it('do not interfere with who made them', async () => {
    const { store, manager, key, names, adapters } = await lateSetup();
    await manager.register({ url: '/m' }, call);
    const seen: string[] = [];
    adapters.clear = async () => {
      const { revision } = await store.list('model');
      await store.tell([{ key, record: undefined, revision }]);
      seen.push(...names());
    };
    await manager.unregister('m', call);
    assert.deepEqual(seen, ['m'], 'it was there while its adapters were cleared');
    assert.deepEqual(names(), []);
  });

  it('do not bring back what was unregistered since', async () => {
    const { store, manager, key, names } = await lateSetup();
    await manager.register({ url: '/m' }, call);
    const record = await store.get(key);
    await manager.unregister('m', call);
    await store.tell([{ key, record, revision: record!.revision }]);
    assert.deepEqual(names(), []);
  });

  it('are followed where another process made them', async () => {
    const { store, key, names } = await lateSetup();
    const body = { url: '/m', overrides: {} };
    const revision = await store.write([{ key, body, note: { action: 'register' } }], { actor: 'b', requestId: 'b' });
    await store.tell([{ key, record: await store.get(key), revision }]);
    assert.deepEqual(names(), ['m']);
    const gone = await store.write([{ key, body: null, note: { action: 'unregister' } }], {
      actor: 'b',
      requestId: 'b',
    });
    await store.tell([{ key, record: undefined, revision: gone }]);
    assert.deepEqual(names(), []);
  });
});

describe('servers on one registry that are given one name for different models at once', () => {
  for (const wait of [true, false]) {
    it(`register one of them, refuse the other, and all serve the same (wait: ${wait})`, async () => {
      const store = new MemoryStore();
      const servers = [await setup(store), await setup(store), await setup(store)];
      const asked = await Promise.allSettled(
        servers.slice(0, 2).map(({ manager }, i) => manager.register({ url: `/${'ab'[i]}`, name: 'm', wait }, call)),
      );
      const refused = asked.filter((one) => one.status === 'rejected');
      assert.equal(refused.length, 1);
      assert.match(String(refused[0]!.reason), /"m" was registered with another server meanwhile/);
      assert.equal((refused[0]!.reason as AppError).reason, 'MODEL_EXISTS');
      const { body } = (await store.get(servers[0]!.key))!;
      const winner = asked.findIndex((one) => one.status === 'fulfilled');
      assert.equal((body as { url: string }).url, `/${'ab'[winner]}`, 'what is kept is what was acknowledged');
      for (const { manager, names } of servers) {
        while (names().length === 0 || manager.get('m').state !== 'ready') await setTimeout(1);
        assert.equal(manager.get('m').url, `/${'ab'[winner]}`);
      }
    });
  }

  it('never answer for the name with the model that is refused', async () => {
    const store = new MemoryStore();
    const [one, two] = [await setup(store), await setup(store)];
    const states: string[] = [];
    const create = KeptRecords.prototype.create;
    mock.method(KeptRecords.prototype, 'create', function (this: KeptRecords, ...args: Parameters<typeof create>) {
      states.push(...[one, two].flatMap(({ manager, names }) => names().map((name) => manager.get(name).state)));
      return create.apply(this, args);
    });
    await Promise.allSettled([one, two].map(({ manager }, i) => manager.register({ url: `/${i}`, name: 'm' }, call)));
    mock.restoreAll();
    assert.deepEqual(new Set(states), new Set(['loading']));
  });

  it('write over a record that nobody can read', async () => {
    const { store, manager, key, names } = await lateSetup();
    await store.write([{ key, body: { odd: true }, note: { action: 'register' } }], { actor: 'b', requestId: 'b' });
    await manager.register({ url: '/m' }, call);
    assert.deepEqual(names(), ['m']);
    assert.equal(((await store.get(key))!.body as { url: string }).url, '/m');
  });
});

describe('a model that is unregistered while its record is written', () => {
  it('leaves no record behind', async () => {
    const { store, manager, key, names } = await lateSetup();
    const create = KeptRecords.prototype.create;
    let unregistered: Promise<unknown> | undefined;
    mock.method(
      KeptRecords.prototype,
      'create',
      async function (this: KeptRecords, ...args: Parameters<typeof create>) {
        unregistered = manager.unregister('m', call);
        while (names().length > 0) await setTimeout(1);
        return create.apply(this, args);
      },
    );
    await assert.rejects(manager.register({ url: '/m' }, call), /was unregistered while it was loading/);
    mock.restoreAll();
    await unregistered;
    assert.equal(await store.get(key), undefined);
    assert.deepEqual(names(), []);
  });
});
