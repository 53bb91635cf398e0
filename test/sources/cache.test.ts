import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ContentCache } from '../../server/sources/content-cache.js';
import { downloadFile } from '../../server/sources/download-file.js';
import { beginHeartbeat, isAlive, STALE_MS } from '../../server/sources/heartbeat-file.js';
import type { Origin, RemoteFile } from '../../server/sources/origin.js';
import type { SourceSettings } from '../../server/sources/source-settings.js';
import { sha256, tarGz } from './archives.js';
import { fileServer } from './file-server.js';
import { Sandbox, settings } from './setup.js';

const sandbox = new Sandbox();
const server = await fileServer();
after(async () => {
  await sandbox.close();
  await server.close();
});
const config = { path: 'adapter_config.json', body: sandbox.adapter().config };

/** An archive of about `size` bytes that do not compress. */
function serve(name: string, size = 20_000): string {
  const archive = tarGz([config, { path: 'adapter_model.safetensors', body: randomBytes(size) }]);
  server.files.set(`/${name}.tgz`, archive);
  return `${server.url}/${name}.tgz#sha256=${sha256(archive)}`;
}
const asked = (name: string) =>
  server.requests.filter(({ path, range }) => path === `/${name}.tgz` && range !== 'bytes=0-0');
function setup(given: Partial<SourceSettings> = {}, cacheDir = sandbox.folder()) {
  const resolver = sandbox.resolver({ allow: [`http://${server.host}`], ...given }, cacheDir);
  return { resolver, open: (source: string) => resolver.open({ source, kind: 'adapter', base: '/' }), cacheDir };
}

describe('the cache of remote files', () => {
  it('takes the lock of an owner that ended before the clock was put back, and waits for one that is a little ahead', async () => {
    const folder = sandbox.folder();
    mkdirSync(folder, { recursive: true });
    const lock = join(folder, 'lock');
    const touched = (inMs: number) => {
      const then = new Date(Date.now() + inMs);
      writeFileSync(lock, '');
      utimesSync(lock, then, then);
    };
    touched(60_000);
    assert.equal(await beginHeartbeat(lock), undefined);
    touched(3_600_000);
    const taken = await beginHeartbeat(lock);
    assert.ok(taken);
    assert.ok(await isAlive(lock));
    await taken.end();
  });

  it('lets go what was used longest ago, never what is in use, and says so when nothing can go', async () => {
    const cacheBytes = 70_000;
    const { open, cacheDir } = setup({ cacheBytes });
    const [a, b, c] = ['a', 'b', 'c'].map((name) => serve(name)) as [string, string, string];
    (await open(a)).release();
    const held = await open(b);
    const more = await open(a);
    more.release();
    const third = await open(c);
    assert.ok(!existsSync(more.path), 'a went, although b was used longer ago: b is in use');
    assert.ok(existsSync(held.path));
    const cache = new ContentCache(join(cacheDir, 'sources'), cacheBytes);
    assert.ok((await cache.room.usedBytes()) <= cacheBytes);
    await assert.rejects(open(a), {
      reason: 'SOURCE_CACHE_FULL',
      message: /needs \d+ bytes; of the cache's 70000 bytes \d+ are taken by what is in use/,
    });
    // Another process that shares the folder lets it be as well.
    await assert.rejects(setup({ cacheBytes }, cacheDir).open(a), { reason: 'SOURCE_CACHE_FULL' });
    held.release();
    (await open(a)).release();
    assert.ok(!existsSync(held.path));
    third.release();
  });

  it('fetches once what many ask for at once, also from several servers', async () => {
    const cacheDir = sandbox.folder();
    const source = serve('once');
    const opens = Array.from({ length: 3 }, () => setup({}, cacheDir)).flatMap(({ open }) => [
      open(source),
      open(source),
    ]);
    const paths = (await Promise.all(opens)).map(({ path, release }) => {
      release();
      return path;
    });
    assert.equal(new Set(paths).size, 1);
    assert.equal(asked('once').length, 1);
  });

  it('fetches again what somebody has shortened', async () => {
    const { open } = setup();
    const source = serve('short');
    const seen = await open(source);
    seen.release();
    truncateSync(join(seen.path, 'adapter_model.safetensors'), 10);
    const again = await open(source);
    assert.equal(readFileSync(join(again.path, 'adapter_model.safetensors')).length, 20_000);
    assert.equal(asked('short').length, 2);
  });

  it('fetches again what somebody has altered, also where two sources share it', async () => {
    const { open, cacheDir } = setup();
    const weights = randomBytes(20_000);
    const [one, two] = ['one', 'two'].map((name) => {
      const files = [config, { path: 'adapter_model.safetensors', body: weights }];
      const archive = tarGz([...files, { path: 'README.md', body: Buffer.from(name) }]);
      server.files.set(`/${name}.tgz`, archive);
      return `${server.url}/${name}.tgz#sha256=${sha256(archive)}`;
    }) as [string, string];
    const held = [await open(one), await open(two)];
    for (const { release } of held) release();
    // One inode, as both are links to it.
    const file = join(held[0]!.path, 'adapter_model.safetensors');
    writeFileSync(file, Buffer.from(weights).fill(0, 10_000, 10_001 + weights.indexOf(1)));
    for (const source of [one, two]) {
      const again = await setup({}, cacheDir).open(source);
      assert.deepEqual(readFileSync(join(again.path, 'adapter_model.safetensors')), weights);
      again.release();
    }
    assert.deepEqual([asked('one').length, asked('two').length], [2, 2]);
    const last = await setup({}, cacheDir).open(one);
    last.release();
    assert.equal(asked('one').length, 2);
  });

  it('keeps no mark of a server that has ended, released or not', async () => {
    const { resolver, open, cacheDir } = setup();
    const marks = join(cacheDir, 'sources', 'marks');
    await open(serve('marked'));
    const other = await open(serve('released'));
    other.release();
    assert.ok(readdirSync(marks).length > 0);
    await resolver.close();
    assert.deepEqual(readdirSync(marks), []);
  });

  it('keeps what was only written to or put back with the same content', async () => {
    const { open, cacheDir } = setup();
    const source = serve('touched');
    const seen = await open(source);
    seen.release();
    const file = join(seen.path, 'adapter_model.safetensors');
    writeFileSync(file, readFileSync(file));
    for (const resolver of [setup({}, cacheDir), setup({}, cacheDir)]) (await resolver.open(source)).release();
    assert.equal(asked('touched').length, 1);
  });

  it('fetches again where the list of files is spoilt, and leaves nothing of it', async () => {
    const { open, cacheDir } = setup();
    const source = serve('listed');
    for (const spoilt of ['{', 'null', '{}']) {
      const seen = await open(source);
      seen.release();
      writeFileSync(join(seen.path, '..', 'manifest.json'), spoilt);
      const again = await open(source);
      again.release();
      assert.equal(readFileSync(join(again.path, 'adapter_model.safetensors')).length, 20_000);
      assert.deepEqual(readdirSync(join(cacheDir, 'sources', 'tmp')), []);
    }
  });

  it('refuses what has no room, before it is fetched', async () => {
    const source = serve('large');
    await assert.rejects(setup({ cacheBytes: 100 }).open(source), {
      reason: 'SOURCE_CACHE_FULL',
      message: /of the cache's 100 bytes/,
    });
    assert.equal(asked('large').length, 0);
  });

  it('tells of a full disk, and goes on when there is room again', { skip: !existsSync('/dev/full') }, async () => {
    const { open, cacheDir } = setup();
    const source = serve('full');
    const partial = join(cacheDir, 'sources', 'partial');
    await assert.rejects(setup({ cacheBytes: 100 }, cacheDir).open(source)); // makes the folders
    // Every write to this device fails as on a full disk.
    symlinkSync('/dev/full', join(partial, source.slice(-64)));
    await assert.rejects(open(source), { reason: 'SOURCE_CACHE_FULL', message: /the disk of the cache is full/ });
    for (const folder of ['snapshots', 'blobs', 'locks'])
      assert.deepEqual(readdirSync(join(cacheDir, 'sources', folder)), []);
    assert.deepEqual(readdirSync(partial), [], 'the partial file that could not be written is gone');
    (await open(source)).release();
  });

  it('marks what could not be marked before, once the disk takes marks again', async () => {
    const folder = sandbox.folder();
    const cache = new ContentCache(folder, 1000);
    await cache.prepare();
    const aside = join(folder, 'aside');
    renameSync(join(folder, 'marks'), aside);
    await assert.rejects(cache.hold('key'), { code: 'ENOENT' });
    renameSync(aside, join(folder, 'marks'));
    assert.equal(await cache.hold('key'), undefined, 'it is not there, which can be told again');
  });

  it('continues what a killed server began', async () => {
    const cacheDir = sandbox.folder();
    const source = serve('killed', 200_000);
    server.faults.set('/killed.tgz', { stallAfter: [150_000] });
    const script = `
      const { createSourceResolver } = await import(${JSON.stringify(new URL('../../server/sources/source-resolver.ts', import.meta.url).href)});
      const resolver = createSourceResolver(${JSON.stringify(settings(cacheDir, { allow: [`http://${server.host}`] }))});
      await resolver.open({ source: ${JSON.stringify(source)}, kind: 'adapter', base: '/', onProgress: ({ bytes }) => console.log(bytes) });
    `;
    const root = fileURLToPath(new URL('../../', import.meta.url));
    const child: ChildProcess = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise<void>((resolve, reject) => {
      let seen = '';
      child.stdout!.on('data', (text: Buffer) => {
        seen += text.toString();
        if (/\b150000\b/.test(seen)) resolve();
      });
      child.once('exit', () => reject(new Error('it ended by itself')));
    });
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
    // As if the time had passed after which a silent owner counts as gone.
    const locks = join(cacheDir, 'sources', 'locks');
    const before = new Date(Date.now() - STALE_MS);
    for (const lock of readdirSync(locks)) utimesSync(join(locks, lock), before, before);
    const { open } = setup({}, cacheDir);
    const seen = await open(source);
    assert.equal(readFileSync(join(seen.path, 'adapter_model.safetensors')).length, 200_000);
    assert.deepEqual(
      asked('killed').map(({ range }) => range),
      [undefined, 'bytes=150000-'],
    );
  });

  it('ends what is under way when the server closes, and keeps it', async () => {
    const { open, resolver, cacheDir } = setup();
    const source = serve('closing');
    server.faults.set('/closing.tgz', { stallAfter: [5000] });
    const opening = assert.rejects(open(source), { reason: 'SHUTTING_DOWN' });
    while (asked('closing').length === 0) await new Promise((resolve) => setImmediate(resolve));
    await resolver.close();
    await opening;
    assert.deepEqual(readdirSync(join(cacheDir, 'sources', 'locks')), []);
    (await setup({}, cacheDir).open(source)).release();
  });
});

describe('one file', () => {
  const options = { signal: new AbortController().signal, retry: { attempts: 2, baseMs: 1, maxMs: 1 }, idleMs: 5000 };
  const origin = (content: Buffer, offsets: number[]): Origin => ({
    label: 'origin',
    list: async () => [],
    open: async (_, offset) => {
      offsets.push(offset);
      return { body: Readable.from([content.subarray(offset)]), offset };
    },
  });

  it('of which too much is there already begins anew; what is whole is only read', async () => {
    const content = Buffer.from('0123456789');
    const file: RemoteFile = { path: 'f', size: 10, version: '1', digests: { sha256: sha256(content) } };
    const partial = sandbox.folder();
    for (const [there, expected] of [
      ['0123456789', []],
      ['01234567890', [0]],
      ['0123', [4]],
      ['', [0]],
      ['wrong', [5, 0]],
    ] as const) {
      writeFileSync(partial, there);
      const offsets: number[] = [];
      assert.equal(await downloadFile(origin(content, offsets), file, partial, options), sha256(content));
      assert.deepEqual(offsets, expected, there);
      assert.equal(readFileSync(partial, 'utf8'), '0123456789');
    }
  });
});
