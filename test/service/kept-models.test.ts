/** Models that are kept, and changes of the registry that are told late, as they are while others are dealt with. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { KeptRecords } from '../../server/service/kept-records.js';
import type { LoadModelOptions } from '../../server/service/load-model.js';
import { ModelManager } from '../../server/service/model-manager.js';
import { ModelPool } from '../../server/service/model-pool.js';
import { ModelUses } from '../../server/service/model-uses.js';
import type { ServedModel } from '../../server/service/served-models.js';
import { LateStore } from './late-store.js';
import { memoryModel } from './memory-model.js';

const call = { requestId: 'test', signal: new AbortController().signal };

async function setup() {
  const store = new LateStore();
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
  return { store, manager, key, names, adapters };
}

describe('changes of the registry that are told late', () => {
  it('do not take away what was registered since', async () => {
    const { store, manager, key, names } = await setup();
    await manager.register({ url: '/m' }, call);
    await manager.unregister('m', call);
    const { revision } = await store.list('model');
    await manager.register({ url: '/m' }, call);
    await store.tell([{ key, record: undefined, revision }]);
    assert.deepEqual(names(), ['m']);
  });

  it('do not interfere with who made them', async () => {
    const { store, manager, key, names, adapters } = await setup();
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
    const { store, manager, key, names } = await setup();
    await manager.register({ url: '/m' }, call);
    const record = await store.get(key);
    await manager.unregister('m', call);
    await store.tell([{ key, record, revision: record!.revision }]);
    assert.deepEqual(names(), []);
  });

  it('are followed where another process made them', async () => {
    const { store, key, names } = await setup();
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
