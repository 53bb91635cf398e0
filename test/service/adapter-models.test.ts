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
  return { engine, service };
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
    const asked = service.acquire('second', [[{ name: 'a', weight: 1 }]], call.signal);
    service.removeModel('second');
    await assert.rejects(asked, failsWith('MODEL_NOT_FOUND'));
  });

  it('takes its adapters along, but a row that runs keeps its weights', async () => {
    const { engine, service } = setup();
    await service.create({ model: 'second', name: 'a', source: 'a0' }, call);
    const [lease] = await service.acquire('second', [[{ name: 'a', weight: 1 }]], call.signal);
    service.removeModel('second');
    await assert.rejects(service.get({ model: 'second', name: 'a' }), /"second" is not served/);
    await settle();
    assert.equal(engine.bytes, BYTES);
    lease!.release();
    await settle();
    assert.equal(engine.bytes, 0);
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
