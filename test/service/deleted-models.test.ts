/** A model that is unregistered takes with it what the registry keeps of its adapters. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryStore } from '../../server/registry/memory-store.js';
import type { RegistryStore } from '../../server/registry/types.js';
import type { Adapters } from '../../server/service/adapter-service.js';
import { clearAdapters, clearLeftModels, KeptRecords } from '../../server/service/kept-records.js';
import type { LoadModelOptions } from '../../server/service/load-model.js';
import { ModelManager } from '../../server/service/model-manager.js';
import { ModelPool } from '../../server/service/model-pool.js';
import { ModelUses } from '../../server/service/model-uses.js';
import type { ServedModel } from '../../server/service/served-models.js';
import { goldenBase } from '../adapters/golden-base.js';
import { MemoryEngine } from '../adapters/memory-engine.js';
import { sqliteDatabase } from '../registry/stores.js';
import { call, dir, managed } from './managed.js';
import { memoryModel } from './memory-model.js';

const base = await goldenBase('llama');
const database = await sqliteDatabase();

/** A manager of models over the adapter service, both on one registry. */
function manage(store: RegistryStore, service: Adapters): ModelManager {
  return new ModelManager({
    pool: new ModelPool(async ({ name }) => memoryModel(name), new ModelUses(), 0),
    models: new Map(),
    adapters: {
      addModel: (name, model) => service.addModel(name, model),
      removeModel: (name) => service.removeModel(name),
      open: (name, dirs) => service.open(name, dirs),
      clear: (name, by) => clearAdapters(store, name, by),
    },
    open: async (path, name) => ({
      options: { name, path, loraEnabled: true } as LoadModelOptions,
      adapterFolders: [dir],
      warnings: [],
    }),
    served: (): ServedModel => ({
      ...{ base, engine: new MemoryEngine(), pool: 'pool', modelDir: dir, loraEnabled: true },
      supportedFeatures: new Set(['lora']),
    }),
    kept: new KeptRecords(store, 'model'),
    log: { info() {}, warn() {} },
  });
}

async function check(store: RegistryStore): Promise<void> {
  const { service } = managed({ store, model: 'other' });
  const manager = manage(store, service);
  const names = async () => (await service.list({ model: 'm' })).adapters.map(({ name }) => name);
  await manager.register({ url: '/m' }, call());
  const all = await names();
  assert.deepEqual(all, ['a0', 'a1', 'a2', 'a3', 'a4']);
  await service.delete({ model: 'm', name: 'a0' }, call());
  await service.create({ model: 'm', name: 'mine', source: 'a1' }, call());
  await manager.unregister('m', call());
  assert.deepEqual((await store.list('adapter', 'm')).records, []);
  const [deletion] = await store.events({ kind: 'model', name: 'm', limit: 1 });
  const events = await store.events({ kind: 'adapter', scope: 'm', limit: 2 });
  for (const { action, revision } of events) assert.deepEqual([action, revision], ['delete', deletion?.revision]);
  await manager.register({ url: '/m' }, call());
  assert.deepEqual(await names(), all);
  await service.close();
}

describe('a model that is unregistered and registered again has the adapters of its folder, and no others', () => {
  it('in memory', async () => {
    await check(new MemoryStore());
  });

  it('in SQLite', async () => {
    const store = await database.open();
    try {
      await check(store);
    } finally {
      await store.close();
      await database.drop();
    }
  });
});

it('takes along an adapter that was stored while its records were being deleted', async () => {
  const store = new MemoryStore();
  const { service } = managed({ store, model: 'other' });
  const manager = manage(store, service);
  await manager.register({ url: '/m' }, call());
  const write = store.write.bind(store);
  store.write = async (changes, author) => {
    // What is to go has been looked up by now.
    if (changes[0]?.note?.action === 'unregister')
      await service.create({ model: 'm', name: 'late', source: 'a1' }, call());
    return write(changes, author);
  };
  await manager.unregister('m', call());
  assert.deepEqual((await store.list('adapter', 'm')).records, []);
  await service.close();
});

it('of which a kill left adapters behind, has none of them when it comes back, or when the server starts', async () => {
  const store = new MemoryStore();
  const kept = new KeptRecords(store, 'model');
  const { service } = managed({ store, model: 'other' });
  const manager = manage(store, service);
  const stored = async (model: string) => (await store.list('adapter', model)).records.map(({ name }) => name);
  /** What a process has written that was killed while the model's handler answered. */
  const leave = async (name: string) => {
    await manager.register({ url: `/${name}`, name }, call());
    await service.create({ model: name, name: 'mine', source: 'a1' }, call());
    await kept.deleteModel(name, call(), false);
    service.removeModel(name);
  };
  await leave('m');
  await leave('n');
  assert.deepEqual([await stored('m'), await stored('n')], [['mine'], ['mine']]);
  const next = managed({ store, model: 'other' }).service;
  const after = manage(store, next);
  await after.register({ url: '/m' }, call());
  const there = (await next.list({ model: 'm' })).adapters.map(({ name }) => name);
  assert.deepEqual(there, ['a0', 'a1', 'a2', 'a3', 'a4']);
  // What is registered for the new model is its own.
  await next.create({ model: 'm', name: 'later', source: 'a1' }, call());
  await clearLeftModels(store, 60_000, call());
  assert.deepEqual([await stored('m'), await stored('n')], [['later'], ['mine']], 'somebody may be at it just now');
  await clearLeftModels(store, 0, call());
  assert.deepEqual([await stored('m'), await stored('n')], [['later'], []]);
  await service.close();
  await next.close();
});
