import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { type Adapters, createAdapterService } from '../../server/service/adapter-service.js';
import type { CallContext } from '../../server/service/types.js';
import { goldenBase } from '../adapters/golden-base.js';
import { MemoryEngine } from '../adapters/memory-engine.js';
import { sha256, tarGz } from '../sources/archives.js';
import { fileServer } from '../sources/file-server.js';
import { Sandbox } from '../sources/setup.js';

const sandbox = new Sandbox();
const server = await fileServer();
const base = await goldenBase('llama');
const services: Adapters[] = [];
after(async () => {
  for (const service of services) await service.close();
  await sandbox.close();
  await server.close();
});
const call: CallContext = { requestId: 'test', signal: new AbortController().signal };
const SECRET = 'S3CR3T';

/** Serves an adapter as an archive; returns its source. */
function serve(name: string, seed: number): string {
  const { config, weights } = sandbox.adapter(seed);
  const archive = tarGz([
    { path: 'adapter_config.json', body: config },
    { path: 'adapter_model.safetensors', body: weights },
  ]);
  server.files.set(`/${name}.tgz`, archive);
  return `${server.url}/${name}.tgz?signature=${SECRET}#sha256=${sha256(archive)}`;
}
const asked = (name: string) => server.requests.filter(({ path }) => path === `/${name}.tgz`).length;

function setup(cacheDir = sandbox.folder(), now?: () => number) {
  const engine = new MemoryEngine();
  const logged: string[] = [];
  const write = (fields: object, message: string) => {
    const { err } = fields as { err?: Error };
    logged.push(JSON.stringify(fields), message, `${err?.stack}${err?.cause}`);
  };
  const service = createAdapterService({
    models: new Map([
      ['m', { base, engine, modelDir: sandbox.dir, loraEnabled: true, supportedFeatures: new Set(['lora']) }],
    ]),
    ...{ allowedRoots: [], now },
    log: { info: write, warn: write },
    sources: sandbox.resolver({ allow: [`http://${server.host}`] }, cacheDir),
  });
  services.push(service);
  const use = async (name: string) => {
    const leases = await service.acquire('m', [[{ name, weight: 1 }]], call);
    for (const { release } of leases) release();
    return leases[0]!.leases[0]!.digest;
  };
  return { service, engine, logged, use, cacheDir };
}

describe('an adapter from elsewhere', () => {
  it('is usable once it is here, and nothing that is told of it has secrets', async () => {
    const { service, engine, logged, use } = setup();
    const source = serve('one', 1);
    const info = await service.create({ name: 'one', source }, call);
    assert.deepEqual([info.state, info.source], ['ready', `${server.url}/one.tgz?[hidden]`]);
    assert.equal(await use('one'), info.digest);
    assert.equal(engine.loads, 1);
    server.faults.set('/two.tgz', { status: [403] });
    await assert.rejects(service.create({ name: 'two', source: serve('two', 2) }, call), {
      reason: 'ADAPTER_SOURCE_INVALID',
      message: /answered 403/,
    });
    const told = [
      await service.list({}),
      await service.get({ name: 'one' }),
      await service.delete({ name: 'one' }, call),
    ];
    assert.ok(!JSON.stringify([told, logged]).includes(SECRET));
  });

  it('costs no request until its first use where it is not to be preloaded', async () => {
    const { service, use } = setup();
    await service.create({ name: 'lazy', source: serve('lazy', 3), preload: false }, call);
    assert.equal(asked('lazy'), 0);
    assert.match(await use('lazy'), /^[0-9a-f]{64}$/);
    assert.ok(asked('lazy') > 0);
    await assert.rejects(service.create({ name: 'x', source: 's3://bucket/x', preload: false }, call), {
      reason: 'ADAPTER_SOURCE_FORBIDDEN',
    });
  });

  it('is asked for once by rows that come together, and stays usable when its place is away', async () => {
    const { service, use, engine } = setup();
    await service.create({ name: 'many', source: serve('many', 4), preload: false }, call);
    const digests = await Promise.all(Array.from({ length: 5 }, () => use('many')));
    assert.equal(new Set(digests).size, 1);
    const before = asked('many');
    await service.update({ name: 'many', preload: false, options: {} }, call);
    for (let i = 0; i < 20 && engine.loaded.size > 0; i += 1) await turn();
    server.files.delete('/many.tgz');
    assert.equal(await use('many'), digests[0]);
    assert.equal(asked('many'), before);
  });

  it('goes back to an earlier version that the cache has', async () => {
    const { service, use } = setup();
    const first = await service.create({ name: 'v', source: serve('v1', 5) }, call);
    const second = await service.update({ name: 'v', source: serve('v2', 6) }, call);
    assert.notEqual(first.digest, second.digest);
    server.files.delete('/v1.tgz');
    const back = await service.update({ name: 'v', digest: first.digest }, call);
    assert.deepEqual([back.digest, await use('v')], [first.digest, first.digest]);
    assert.ok(!JSON.stringify(await service.get({ name: 'v' })).includes(SECRET));
  });

  it('that is gone is refused as that, and comes back by itself when its source has it again', async () => {
    let time = 0;
    const { service, use } = setup(sandbox.folder(), () => time);
    await service.create({ name: 'back', source: serve('back', 8), preload: false }, call);
    const archive = server.files.get('/back.tgz')!;
    server.files.delete('/back.tgz');
    const gone = { reason: 'ADAPTER_FAILED', message: /answered 404/ };
    await assert.rejects(use('back'), gone);
    const before = asked('back');
    await assert.rejects(use('back'), gone);
    assert.equal(asked('back'), before, 'a source is not asked by every request');
    time += 10_000;
    await assert.rejects(use('back'), gone);
    assert.ok(asked('back') > before);
    server.files.set('/back.tgz', archive);
    time += 10_000;
    assert.equal(await use('back'), (await service.get({ name: 'back' })).digest);
  });

  it('is fetched again when what the cache has is no longer what it was', async () => {
    const cacheDir = sandbox.folder();
    const { service, engine, use } = setup(cacheDir);
    const { digest } = await service.create({ name: 'rot', source: serve('rot', 7) }, call);
    const { path } = await sandbox
      .resolver({ allow: [`http://${server.host}`] }, cacheDir)
      .open({ source: serve('rot', 7), kind: 'adapter', base: '/' });
    const file = join(path, 'adapter_model.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 1]! ^= 1;
    writeFileSync(file, bytes);
    await service.update({ name: 'rot', preload: false }, call);
    for (let i = 0; i < 20 && engine.loaded.size > 0; i += 1) await turn();
    assert.equal(engine.loaded.size, 0);
    const before = asked('rot');
    assert.equal(await use('rot'), digest);
    assert.ok(asked('rot') > before);
  });
});
