/** Adapters of models that come and go while the server runs. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { prepareAdapter } from '../../server/adapters/prepare-adapter.js';
import { validateAdapter } from '../../server/adapters/validate-adapter.js';
import { createAdapterService } from '../../server/service/adapter-service.js';
import type { ServedModel } from '../../server/service/served-models.js';
import { writeAdapter } from '../adapters/adapter-files.js';
import { goldenBase } from '../adapters/golden-base.js';
import { MemoryEngine } from '../adapters/memory-engine.js';
import { failsWith } from '../app-error.js';

const dir = mkdtempSync(join(tmpdir(), 'adapter-models-'));
after(() => rmSync(dir, { recursive: true }));
const base = await goldenBase('llama');
const call = { requestId: 'test', signal: new AbortController().signal };
const BYTES = 2 * 2 * (48 + 48) * 4;
writeAdapter(join(dir, 'a0'), {}, 1);
writeAdapter(join(dir, 'a1'), {}, 2);
cpSync(join(dir, 'a0'), join(dir, 'twin'), { recursive: true });

function setup() {
  const engine = new MemoryEngine();
  const model = (pool: string): ServedModel => ({
    base,
    engine,
    pool,
    modelDir: dir,
    loraEnabled: true,
    supportedFeatures: new Set(['lora']),
  });
  const service = createAdapterService({
    models: new Map([['first', model('engine')]]),
    defaultModel: () => 'first',
    allowedRoots: [dir],
    log: { info: () => {}, warn: () => {} },
    reader: { read: prepareAdapter, validate: validateAdapter, close: async () => {} },
  });
  service.addModel('second', model('engine'));
  return { engine, model, service };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 6; i += 1) await turn();
}

describe('models that share an engine', () => {
  it('have names of their own, and equal content is held once', async () => {
    const { engine, service } = setup();
    const one = await service.create({ name: 'a', source: 'a0' }, call);
    const two = await service.create({ model: 'second', name: 'a', source: 'twin' }, call);
    assert.deepEqual([one.model, two.model, one.digest], ['first', 'second', two.digest]);
    assert.deepEqual([engine.loads, engine.bytes], [1, BYTES]);
    await service.delete({ name: 'a' }, call);
    await settle();
    assert.equal(engine.bytes, BYTES, 'the other name still needs it');
    assert.equal((await service.get({ model: 'second', name: 'a' })).bytes, BYTES);
  });
});

describe('a model that is removed', () => {
  it('is what a request is told whose adapter was still to be loaded for it', async () => {
    const { service } = setup();
    await service.create({ model: 'second', name: 'a', source: 'a0', preload: false }, call);
    const asked = service.acquire('second', [[{ name: 'a', weight: 1 }]], call);
    service.removeModel('second');
    await assert.rejects(asked, failsWith('MODEL_NOT_FOUND'));
  });

  it('takes its adapters along, but a row that runs keeps its weights', async () => {
    const { engine, service } = setup();
    await service.create({ model: 'second', name: 'a', source: 'a0' }, call);
    const [lease] = await service.acquire('second', [[{ name: 'a', weight: 1 }]], call);
    service.removeModel('second');
    await assert.rejects(service.get({ model: 'second', name: 'a' }), /"second" is not served/);
    await settle();
    assert.equal(engine.bytes, BYTES);
    lease!.release();
    await settle();
    assert.equal(engine.bytes, 0);
  });

  it('takes along the versions that only aliases lead to, pinned ones too', async () => {
    const { engine, service } = setup();
    const first = await service.create({ model: 'second', name: 'a', source: 'a0', pin: true }, call);
    await service.update({ model: 'second', name: 'a', source: 'a1' }, call);
    const targets = [{ adapter: 'a', digest: first.digest }];
    await service.setAlias({ model: 'second', name: 'stable', targets }, call);
    const [lease] = await service.acquire('second', [[{ name: 'stable', weight: 1 }]], call);
    lease!.release();
    service.removeModel('second');
    await settle();
    assert.equal(engine.bytes, 0);
  });

  it('is what everyone is told whose adapter was being read for it, also where another model has its name by now', async () => {
    const { engine, model, service } = setup();
    const again = () => {
      service.removeModel('second');
      service.addModel('second', model('other'));
    };
    const created = service.create({ model: 'second', name: 'b', source: 'a1' }, call);
    again();
    await assert.rejects(created, failsWith('MODEL_NOT_FOUND'));
    await service.create({ model: 'second', name: 'a', source: 'a0' }, call);
    const updated = service.update({ model: 'second', name: 'a', source: 'a1' }, call);
    again();
    await assert.rejects(updated, failsWith('MODEL_NOT_FOUND'));
    await service.create({ model: 'second', name: 'c', source: 'a0' }, call);
    assert.equal((await service.list({ model: 'second' })).adapters.length, 1);
    await settle();
    assert.equal(engine.bytes, BYTES);
  });

  it('does not lend the adapters of another model that has its name by now', async () => {
    const { engine, model, service } = setup();
    service.removeModel('second');
    const other = { ...model('other'), engine: new MemoryEngine() };
    service.addModel('second', other);
    await service.create({ model: 'second', name: 'a', source: 'a0' }, call);
    const ask = (on: MemoryEngine) => service.acquire('second', [[{ name: 'a', weight: 1 }]], call, on);
    await assert.rejects(ask(engine), failsWith('MODEL_NOT_FOUND'));
    (await ask(other.engine))[0]!.release();
  });

  it('refuses an adapter whose registration was under way', async () => {
    const { engine, service } = setup();
    const created = service.create({ model: 'second', name: 'a', source: 'a0' }, call);
    service.removeModel('second');
    await assert.rejects(created, /"second"/);
    await settle();
    assert.equal(engine.bytes, 0);
  });
});
