import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import type { SourceSettings } from '../../server/sources/source-settings.js';
import { sha256, type TarEntry, tarGz, zip } from './archives.js';
import { type FileServer, fileServer } from './file-server.js';
import { Sandbox } from './setup.js';

const sandbox = new Sandbox();
const server: FileServer = await fileServer();
after(async () => {
  await sandbox.close();
  await server.close();
});
const adapter = sandbox.adapter();
const config = { path: 'adapter_config.json', body: adapter.config };
const weights = { path: 'adapter_model.safetensors', body: adapter.weights };
const good = tarGz([config, weights, { path: 'README.md', body: Buffer.from('no') }]);
let names = 0;

/** Puts an archive behind a URL of its own. */
function serve(archive: Buffer, end = '.tar.gz'): { path: string; source: string } {
  names += 1;
  const path = `/loras/a${names}${end}`;
  server.files.set(path, archive);
  return { path, source: `${server.url}${path}?sig=S3CR3T#sha256=${sha256(archive)}` };
}

function setup(given: Partial<SourceSettings> = {}, cacheDir = sandbox.folder()) {
  const resolver = sandbox.resolver({ allow: [`http://${server.host}/loras`], ...given }, cacheDir);
  const open = (source: string, signal?: AbortSignal) => resolver.open({ source, kind: 'adapter', base: '/', signal });
  return { resolver, open, cacheDir };
}
const asked = (path: string) =>
  server.requests.filter((request) => request.path === path && request.range !== 'bytes=0-0');
const refusal = (reason: string, message: RegExp) => (error: unknown) => {
  const { message: text, reason: found, stack } = error as Error & { reason: string };
  assert.equal(found, reason, text);
  assert.match(text, message);
  assert.ok(!`${stack}${JSON.stringify(error)}${(error as Error).cause}`.includes('S3CR3T'), 'a secret is told');
  return true;
};

describe('an archive', () => {
  for (const [end, bytes] of [
    ['.tar.gz', good],
    [
      '.tgz',
      tarGz([
        { path: './fr/', type: 'Directory' },
        { ...config, path: './fr/adapter_config.json' },
        { ...weights, path: './fr/adapter_model.safetensors' },
      ]),
    ],
    ['.zip', zip([config, weights, { path: 'x/', body: Buffer.alloc(0), mode: 0o040755 }])],
  ] as const) {
    it(`${end} is fetched once, and only the adapter's files are kept`, async () => {
      const { open, cacheDir } = setup();
      const { path, source } = serve(bytes, end);
      const seen = await open(source);
      const folder = existsSync(join(seen.path, 'fr')) ? join(seen.path, 'fr') : seen.path;
      assert.deepEqual(readdirSync(folder).sort(), ['adapter_config.json', 'adapter_model.safetensors']);
      assert.deepEqual(readFileSync(join(folder, 'adapter_model.safetensors')), adapter.weights);
      assert.ok(!seen.label.includes('S3CR3T'));
      seen.release();
      const again = await open(source);
      assert.equal(again.path, seen.path);
      assert.equal(asked(path).length, 1);
      for (const left of ['partial', 'tmp', 'locks'])
        assert.deepEqual(readdirSync(join(cacheDir, 'sources', left)), []);
      again.release();
    });
  }

  it('that arrives broken is fetched once more, then refused; later it is fetched anew', async () => {
    const { open, cacheDir } = setup();
    const { path, source } = serve(good);
    server.faults.set(path, { corrupt: 1 });
    (await open(source)).release();
    assert.equal(asked(path).length, 2);
    const other = serve(tarGz([config, weights, config].slice(0, 2)));
    server.faults.set(other.path, { corrupt: 2 });
    await assert.rejects(open(other.source), refusal('SOURCE_CORRUPT', /arrived broken 2 times: its sha256 is/));
    assert.deepEqual(readdirSync(join(cacheDir, 'sources', 'partial')), []);
    (await open(other.source)).release();
  });

  it('is continued where the connection broke, also by the next server', async () => {
    const { open, cacheDir, resolver } = setup();
    const { path, source } = serve(good);
    server.faults.set(path, { cutAfter: [100, 150] });
    (await open(source)).release();
    assert.deepEqual(
      asked(path).map(({ range }) => range),
      [undefined, 'bytes=100-', 'bytes=250-'],
    );
    const other = serve(tarGz([weights, config]));
    server.faults.set(other.path, { cutAfter: [200, 0, 0, 0] });
    await assert.rejects(open(other.source), refusal('SOURCE_UNAVAILABLE', /after 200 of \d+ bytes/));
    await resolver.close();
    server.faults.delete(other.path);
    server.requests.length = 0;
    (await setup({}, cacheDir).open(other.source)).release();
    assert.deepEqual(
      asked(other.path).map(({ range }) => range),
      ['bytes=200-'],
    );
  });

  it('begins anew where the server knows no ranges', async () => {
    const { open } = setup();
    const { path, source } = serve(good);
    server.faults.set(path, { cutAfter: [good.length, 100], noRanges: true });
    (await open(source)).release();
    assert.deepEqual(
      asked(path).map(({ range }) => range),
      [undefined, 'bytes=100-'],
    );
  });

  it('is tried again while the server is busy, and not where it says no', async () => {
    const { open } = setup();
    const { path, source } = serve(good);
    server.faults.set(path, { status: [503, 429] });
    (await open(source)).release();
    assert.equal(asked(path).length, 3);
    const gone = serve(good, '.tgz');
    server.files.delete(gone.path);
    await assert.rejects(setup().open(gone.source), refusal('ADAPTER_SOURCE_INVALID', /answered 404/));
    const busy = serve(good);
    server.faults.set(busy.path, { status: [500, 500, 500, 500] });
    await assert.rejects(setup().open(busy.source), refusal('SOURCE_UNAVAILABLE', /answered 500/));
  });

  it('that comes too slowly ends with the deadline and its numbers; what came is kept', async () => {
    const cacheDir = sandbox.folder();
    const { path, source } = serve(good);
    server.faults.set(path, { stallAfter: [300] });
    await assert.rejects(
      setup({ timeoutMs: 300 }, cacheDir).open(source),
      refusal('SOURCE_UNAVAILABLE', /was not here after 300 ms/),
    );
    (await setup({}, cacheDir).open(source)).release();
    assert.equal(asked(path).at(-1)!.range, 'bytes=300-');
    const stalled = serve(good);
    server.faults.set(stalled.path, { stallAfter: [10] });
    (await setup({ idleMs: 100 }).open(stalled.source)).release();
    assert.deepEqual(
      asked(stalled.path).map(({ range }) => range),
      [undefined, 'bytes=10-'],
    );
  });

  it('that a caller no longer waits for ends for him alone', async () => {
    const { open } = setup();
    const { path, source } = serve(good);
    const client = new AbortController();
    let asking = () => {};
    const started = new Promise<void>((resolve) => {
      asking = resolve;
    });
    server.handle = (request) => {
      if (request.url!.startsWith(path) && request.headers.range === undefined) {
        asking();
        server.handle = () => false;
      }
      return false;
    };
    server.faults.set(path, { cutAfter: [50] });
    const first = open(source, client.signal);
    const second = open(source);
    await started;
    client.abort(new Error('left'));
    await assert.rejects(first, /left/);
    (await second).release();
    assert.deepEqual(
      asked(path).map(({ range }) => range),
      [undefined, 'bytes=50-'],
    );
  });

  it('with links, devices or places outside is refused as a whole', async () => {
    const evil: [string, readonly TarEntry[], RegExp][] = [
      [
        'link',
        [{ path: 'adapter_model.safetensors', type: 'SymbolicLink', linkpath: '/etc/passwd' }],
        /is a SymbolicLink/,
      ],
      ['hard link', [{ path: 'x', type: 'Link', linkpath: 'adapter_config.json' }], /is a Link/],
      ['device', [{ path: 'x', type: 'CharacterDevice' }], /is a CharacterDevice/],
      ['queue', [{ path: 'x', type: 'FIFO' }], /is a FIFO/],
      ['outside', [{ path: '../x', body: Buffer.from('x') }], /names a place outside/],
      ['absolute', [{ path: '/etc/x', body: Buffer.from('x') }], /names a place outside/],
      ['twice', [config], /twice/],
    ];
    for (const [what, entries, message] of evil) {
      const { open, cacheDir } = setup();
      await assert.rejects(
        open(serve(tarGz([config, ...entries, weights])).source),
        refusal('ADAPTER_SOURCE_INVALID', message),
        what,
      );
      for (const left of ['partial', 'tmp', 'blobs', 'snapshots']) {
        assert.deepEqual(readdirSync(join(cacheDir, 'sources', left)), [], what);
      }
    }
    for (const [entry, message] of [
      [{ path: 'link', body: Buffer.from('/etc/passwd'), mode: 0o120777 }, /link or device/],
      [{ path: '../x', body: Buffer.from('x') }, /invalid relative path|outside/],
      [{ path: '/x', body: Buffer.from('x') }, /absolute path|outside/],
    ] as const) {
      await assert.rejects(
        setup().open(serve(zip([config, entry, weights]), '.zip').source),
        refusal('ADAPTER_SOURCE_INVALID', message),
      );
    }
  });

  it('that is no archive, or cut off, or unpacks to too much is refused', async () => {
    const { open } = setup({ maxBytes: 100_000 });
    await assert.rejects(
      open(serve(Buffer.from('nothing of the kind')).source),
      refusal('ADAPTER_SOURCE_INVALID', /broken/),
    );
    await assert.rejects(open(serve(good.subarray(0, 400)).source), refusal('ADAPTER_SOURCE_INVALID', /broken/));
    await assert.rejects(open(serve(Buffer.from('PK'), '.zip').source), refusal('ADAPTER_SOURCE_INVALID', /broken/));
    const bomb = tarGz([config, weights, { path: 'zeros', body: Buffer.alloc(1_000_000) }]);
    assert.ok(bomb.length < 100_000);
    await assert.rejects(open(serve(bomb).source), refusal('SOURCE_TOO_LARGE', /at most 100000 are taken/));
    const large = serve(good);
    await assert.rejects(
      setup({ maxBytes: 10 }).open(large.source),
      refusal('SOURCE_TOO_LARGE', /at most 10 are fetched/),
    );
    assert.equal(asked(large.path).length, 0);
  });
});

describe('the network behind a source', () => {
  it('is not touched where no rule allows it', async () => {
    const { path, source } = serve(good);
    await assert.rejects(setup({ allow: [] }).open(source), refusal('ADAPTER_SOURCE_FORBIDDEN', /no remote source/));
    await assert.rejects(
      setup({ allow: [`http://${server.host}/other`] }).open(source),
      refusal('ADAPTER_SOURCE_FORBIDDEN', /no --allow-source covers it/),
    );
    assert.equal(server.requests.filter((request) => request.path === path).length, 0);
  });

  it('is not left by a redirect that no rule allows', async () => {
    const other = await fileServer();
    try {
      const { path, source } = serve(good);
      other.files.set('/loras/x.tar.gz', good);
      server.faults.set(path, { redirect: `${other.url}/loras/x.tar.gz` });
      await assert.rejects(setup().open(source), refusal('ADAPTER_SOURCE_FORBIDDEN', /redirects to 127\.0\.0\.1/));
      assert.equal(other.requests.length, 0);
      const allow = [`http://${server.host}/loras`, `http://${other.host}/loras`];
      (await setup({ allow }).open(source)).release();
      server.faults.set(path, { redirect: source });
      await assert.rejects(setup().open(source), refusal('SOURCE_UNAVAILABLE', /more than 5 redirects/));
      server.faults.set(path, { redirect: 'file:///etc/passwd' });
      await assert.rejects(setup().open(source), refusal('ADAPTER_SOURCE_FORBIDDEN', /redirects to file:/));
    } finally {
      await other.close();
    }
  });

  it('of private addresses is only for hosts that a rule names', async () => {
    const digest = sha256(good);
    for (const [allow, source] of [
      ['https://*/loras', `https://127.0.0.1:9/loras/a.tgz#sha256=${digest}`],
      ['https://*/loras', `https://[::1]:9/loras/a.tgz#sha256=${digest}`],
      ['https://*/loras', `https://localhost:9/loras/a.tgz#sha256=${digest}`],
    ] as const) {
      await assert.rejects(
        setup({ allow: [allow] }).open(source),
        refusal('ADAPTER_SOURCE_FORBIDDEN', /has the private address/),
        source,
      );
    }
  });
});
