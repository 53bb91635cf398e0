import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { SourceSettings } from '../../server/sources/source-settings.js';
import { sha256 } from './archives.js';
import { hubDouble } from './hub-double.js';
import { Sandbox } from './setup.js';

const TOKEN = 'hf_S3CR3T';
const sandbox = new Sandbox();
const hub = await hubDouble(TOKEN);
after(async () => {
  await sandbox.close();
  await hub.close();
});
const { config, weights } = sandbox.adapter();
assert.ok(weights.length > 512 && config.length < 512, 'one file of each kind');
const files = {
  'README.md': Buffer.from('words'),
  'adapter_config.json': config,
  'adapter_model.safetensors': weights,
  'adapter_model.bin': Buffer.alloc(600),
  'sub/q8.gguf': Buffer.alloc(700, 1),
};

function setup(given: Partial<SourceSettings> = {}, cacheDir = sandbox.folder()) {
  hub.api.requests.length = 0;
  hub.storage.requests.length = 0;
  const settings = { allow: ['hf://org/*'], hub: { endpoint: hub.endpoint, token: TOKEN }, ...given };
  const resolver = sandbox.resolver(settings, cacheDir);
  return (source: string, more = {}) => resolver.open({ source, kind: 'adapter', base: '/', ...more });
}
const open = (source: string, given?: Partial<SourceSettings>) => setup(given)(source);
const stored = () => hub.storage.requests.map(({ range }) => range);

/** Lays a repository out as Hugging Face's tools do. */
function hubCache(repo: string, commit: string, content: Readonly<Record<string, Buffer>>): string {
  const cache = sandbox.folder();
  const root = join(cache, `models--${repo.replace('/', '--')}`);
  mkdirSync(join(root, 'refs'), { recursive: true });
  mkdirSync(join(root, 'blobs'));
  mkdirSync(join(root, 'snapshots', commit), { recursive: true });
  writeFileSync(join(root, 'refs', 'main'), commit);
  for (const [path, body] of Object.entries(content)) {
    writeFileSync(join(root, 'blobs', sha256(body)), body);
    symlinkSync(join('..', '..', 'blobs', sha256(body)), join(root, 'snapshots', commit, path));
  }
  return cache;
}

describe('a repository of a hub', () => {
  it('is fetched at one commit: only what is needed, with the token for the hub alone', async () => {
    hub.commit('org/fr', files);
    const seen = await open('hf://org/fr');
    assert.deepEqual(readdirSync(seen.path).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
    assert.deepEqual(readFileSync(join(seen.path, 'adapter_model.safetensors')), weights);
    assert.ok(hub.api.requests.every(({ authorization }) => authorization === `Bearer ${TOKEN}`));
    assert.deepEqual(hub.storage.requests, [
      { path: `/blob/${sha256(weights)}`, range: undefined, authorization: undefined },
    ]);
  });

  it('is named by an id too, unless a folder of that name is there', async () => {
    hub.commit('org/id', files);
    const base = sandbox.folder();
    const byId = await setup()('org/id', { base, roots: [base] });
    assert.match(byId.label, /^hf:\/\/org\/id@/);
    mkdirSync(join(base, 'org', 'id'), { recursive: true });
    assert.equal((await setup()('org/id', { base, roots: [base] })).path, join(base, 'org', 'id'));
    await assert.rejects(setup({ allow: [] })('org/other', { base, roots: [base] }), {
      reason: 'ADAPTER_SOURCE_INVALID',
      message: /does not exist/,
    });
  });

  it('of another commit is other content; an earlier snapshot stays without asking', async () => {
    const cacheDir = sandbox.folder();
    const first = hub.commit('org/moves', files);
    const before = await setup({}, cacheDir)('hf://org/moves');
    const changed = Buffer.from(weights);
    changed[changed.length - 1]! ^= 1;
    hub.commit('org/moves', { ...files, 'adapter_model.safetensors': changed });
    const now = await setup({}, cacheDir)('hf://org/moves');
    assert.deepEqual(readFileSync(join(now.path, 'adapter_model.safetensors')), changed);
    assert.deepEqual(readFileSync(join(before.path, 'adapter_model.safetensors')), weights);
    assert.deepEqual(stored(), [undefined], 'the small file was there already');
    const kept = await setup({}, cacheDir)('hf://org/moves', { snapshot: before.snapshot });
    assert.equal(kept.path, before.path);
    assert.equal(hub.api.requests.length, 0);
    const pinned = await setup({}, cacheDir)(`hf://org/moves@${first}`);
    assert.deepEqual(readFileSync(join(pinned.path, 'adapter_model.safetensors')), weights);
    assert.deepEqual(stored(), [], 'content that is known by its digest is not fetched');
  });

  it('may be a file or a folder inside of it', async () => {
    hub.commit('org/parts', files);
    const file = await open('hf://org/parts/sub/q8.gguf');
    assert.deepEqual(readFileSync(file.path), files['sub/q8.gguf']);
    const folder = await open('hf://org/parts@main/sub');
    assert.match(folder.path, /q8\.gguf$/);
  });

  it('that breaks off is continued, and what its digest denies is refused', async () => {
    const body = Buffer.concat([weights, Buffer.from('1')]);
    hub.commit('org/cut', { ...files, 'adapter_model.safetensors': body });
    hub.storage.faults.set(`/blob/${sha256(body)}`, { cutAfter: [200] });
    await open('hf://org/cut');
    assert.deepEqual(stored(), [undefined, 'bytes=200-']);
    const wrong = Buffer.concat([weights, Buffer.from('2')]);
    hub.commit('org/wrong', { ...files, 'adapter_model.safetensors': wrong });
    hub.storage.faults.set(`/blob/${sha256(wrong)}`, { corrupt: 9 });
    await assert.rejects(open('hf://org/wrong'), { reason: 'SOURCE_CORRUPT', message: /its sha256 is/ });
    const commit = hub.commit('org/small', { ...files, 'adapter_config.json': Buffer.from('{"r": 1}') });
    hub.api.faults.set(`/org/small/resolve/${commit}/adapter_config.json`, { corrupt: 9 });
    await assert.rejects(open('hf://org/small'), { reason: 'SOURCE_CORRUPT', message: /its gitSha1 is/ });
  });

  it('that is not there, or not for this server, is told without secrets', async () => {
    const secretless = (message: RegExp) => (error: unknown) => {
      const { reason, message: text, stack, cause } = error as Error & { reason: string };
      assert.equal(reason, 'ADAPTER_SOURCE_INVALID');
      assert.match(text, message);
      assert.ok(!`${stack}${cause}${JSON.stringify(error)}`.includes('S3CR3T'));
      return true;
    };
    await assert.rejects(
      open('hf://org/none'),
      secretless(/the hub answered 404: there is no such repository, revision or folder/),
    );
    hub.commit('org/closed', files);
    await assert.rejects(
      open('hf://org/closed', { hub: { endpoint: hub.endpoint } }),
      secretless(/answered 401: it does not exist, or needs a token \(HF_TOKEN\)/),
    );
    await assert.rejects(
      open('hf://org/closed', { hub: { endpoint: hub.endpoint, token: 'S3CR3T-wrong' } }),
      secretless(/answered 401: the token \(HF_TOKEN\) has no access/),
    );
    await assert.rejects(open('hf://else/where'), { reason: 'ADAPTER_SOURCE_FORBIDDEN' });
  });

  it('in the cache of Hugging Face is read where it is, if it is whole', async () => {
    const commit = hub.commit('org/cached', files);
    const whole = hubCache('org/cached', commit, {
      'adapter_config.json': config,
      'adapter_model.safetensors': weights,
    });
    const seen = await open('hf://org/cached', { hubCache: whole });
    assert.equal(seen.path, join(whole, 'models--org--cached', 'snapshots', commit));
    assert.deepEqual([seen.label, hub.api.requests.length], [`hf://org/cached@${commit}`, 0]);
    const part = hubCache('org/cached', commit, { 'adapter_config.json': config });
    assert.ok((await open('hf://org/cached', { hubCache: part })).snapshot);
    rmSync(join(whole, 'models--org--cached', 'blobs', sha256(weights)));
    assert.ok((await open('hf://org/cached', { hubCache: whole })).snapshot, 'a blob is gone');
  });
});
