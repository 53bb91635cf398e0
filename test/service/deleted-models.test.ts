/** A model that is unregistered takes with it what the registry keeps of its adapters. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { MemoryStore } from '../../server/registry/memory-store.js';
import type { RegistryStore } from '../../server/registry/types.js';
import type { Adapters } from '../../server/service/adapter-service.js';
import { clearAdapters, KeptRecords } from '../../server/service/kept-records.js';
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
