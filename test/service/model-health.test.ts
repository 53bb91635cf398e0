/** Models as health checks see them, over engines that the test can let die. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { HealthState } from '../../server/rpc/health.js';
import { Changes } from '../../server/service/changes.js';
import type { LoadModelOptions } from '../../server/service/load-model.js';
import { ModelManager } from '../../server/service/model-manager.js';
import { ModelPool } from '../../server/service/model-pool.js';
import { ModelUses } from '../../server/service/model-uses.js';
import type { LoadedModel } from '../../server/service/ports.js';
import { servedHealth } from '../../server/service/served-health.js';
import type { ServedModel } from '../../server/service/served-models.js';
import type { WorkflowInfo } from '../../server/service/workflows/types.js';
import type { MemoryEngine } from './memory-engine.js';
import { memoryModel } from './memory-model.js';

const call = { requestId: 'test', signal: new AbortController().signal };

function setup() {
  const engines: MemoryEngine[] = [];
  const changes = new Changes();
  let load: () => Promise<void> = async () => {};
  const pool = new ModelPool(
    async ({ name }) => {
      await load();
      const model = memoryModel(name);
      engines.push(model.engine);
      return model;
    },
    new ModelUses(),
    0,
  );
  const manager = new ModelManager({
    pool,
    changes,
    models: new Map<string, LoadedModel>(),
    adapters: { addModel() {}, removeModel() {}, open: async () => {}, clear: async () => {} },
    open: async (path, name) => ({
      options: { name, path, loraEnabled: true } as LoadModelOptions,
      adapterFolders: [],
      warnings: [],
    }),
    served: () => ({}) as ServedModel,
    log: { info() {}, warn() {} },
  });
  const workflows: WorkflowInfo[] = [];
  const find = (name: string) => {
    const info = workflows.findLast((one) => one.name === name);
    return info && { info };
  };
  const health = new HealthState(['a.Service'], servedHealth(manager, { list: () => workflows, find }, changes));
  health.ready();
  const seen: (boolean | undefined)[] = [];
  health.onChange(() => {
    const now = health.of('m');
    if (now !== seen.at(-1)) seen.push(now);
  });
  return {
    ...{ manager, workflows, health, seen, engines },
    loadBy(next: typeof load) {
      load = next;
    },
  };
}

describe('health of models', () => {
  it('follows a model from its registration to its end', async () => {
    const { manager, health, seen } = setup();
    assert.equal(health.of('m'), undefined);
    await manager.register({ url: '/m' }, call);
    assert.deepEqual([health.of('m'), health.names()], [true, ['', 'a.Service', 'm']]);
    await manager.unregister('m', call);
    assert.deepEqual([health.of('m'), seen], [undefined, [false, true, undefined]]);
  });

  it('tells a model that could not be loaded, which is its own matter', async () => {
    const { manager, health, loadBy, seen } = setup();
    loadBy(() => Promise.reject(new Error('no weights')));
    await manager.register({ url: '/m', wait: false }, call);
    while (manager.get('m').state === 'loading') await turn();
    assert.deepEqual([health.of('m'), health.of(''), health.of('a.Service')], [false, true, true]);
    assert.deepEqual(seen, [false]);
  });

  it('tells an engine that stops, for its model and for the server', async () => {
    const { manager, health, engines, seen } = setup();
    await manager.register({ url: '/m' }, call);
    await manager.register({ url: '/other' }, call);
    engines[0]!.die();
    while (seen.at(-1)) await turn();
    assert.deepEqual(
      ['m', 'other', '', 'a.Service'].map((name) => health.of(name)),
      [false, true, false, true],
    );
  });

  it('tells an engine that does not move, and that it moves again', async () => {
    const { manager, health, engines, seen } = setup();
    await manager.register({ url: '/m' }, call);
    engines[0]!.stall('a step has not returned for 1 s');
    assert.deepEqual([health.of('m'), health.of('')], [false, false]);
    const { state, error, info } = manager.get('m');
    assert.deepEqual([state, info!.ready], ['failed', false]);
    assert.equal(error, 'the engine does not move: a step has not returned for 1 s');
    engines[0]!.stall(undefined);
    assert.deepEqual([health.of('m'), health.of(''), manager.get('m').state], [true, true, 'ready']);
    assert.deepEqual(seen.slice(-3), [true, false, true]);
  });

  it('tells workflows by the models of their newest version', async () => {
    const { manager, health, workflows, engines } = setup();
    await manager.register({ url: '/m' }, call);
    await manager.register({ url: '/other' }, call);
    const of = (version: string, served: string, createdAt: number) =>
      ({ name: 'w', version, models: [{ local: 'x', served, url: '' }], createdAt }) as unknown as WorkflowInfo;
    workflows.push(of('9', 'm', 1), of('10', 'other', 2));
    assert.deepEqual([health.of('w'), health.names().includes('w')], [true, true]);
    engines[1]!.die();
    assert.equal(health.of('w'), false);
    assert.equal(health.of('m'), true);
  });

  it('tells nothing serves before the start and during a shutdown', async () => {
    const { manager, health } = setup();
    await manager.register({ url: '/m' }, call);
    health.drain();
    assert.deepEqual([health.of('m'), health.of(''), health.of('a.Service')], [false, false, false]);
  });
});
