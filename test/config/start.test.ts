/** What a start that cannot succeed says, by the process itself. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { exactWeightBytes } from '../../server/engine/integer-check.js';
import { spawnServer } from '../rest/served.js';

const MAIN = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));
const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

async function start(t: TestContext, ...flags: string[]): Promise<{ code: number; said: string }> {
  const child = spawn(process.execPath, [MAIN, 'serve', ...flags]);
  t.after(() => child.kill('SIGKILL'));
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
  return { code, said };
}

test('an address that cannot be had is told before a model is looked at', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'loramux-start-'));
  t.after(() => rm(folder, { recursive: true }));
  // A model that fails to load: whatever is said first was looked at first.
  await writeFile(join(folder, 'config.json'), '{}');
  const other = net.createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  t.after(() => other.close());
  const { port } = other.address() as net.AddressInfo;
  const taken = await start(t, '--model', folder, '--port', `${port}`, '--state-dir', 'none');
  assert.deepEqual([taken.code, taken.said.split(': listen')[0]], [2, `loramux: cannot listen on 127.0.0.1:${port}`]);
  const elsewhere = await start(t, '--model', folder, '--host', '192.0.2.1', '--port', '0');
  assert.equal(elsewhere.code, 2);
  assert.match(elsewhere.said, /^loramux: cannot listen on 192\.0\.2\.1:0: /);
});

test('a state folder that cannot be made is told', { skip: process.platform !== 'linux' }, async (t) => {
  for (const folder of ['/proc/x', '/proc/x/y', '/dev/null/x']) {
    const { code, said } = await start(t, '--port', '0', '--state-dir', folder);
    assert.equal(code, 2);
    assert.match(said, new RegExp(`^loramux: the registry ${folder}/registry.db cannot be opened: E[A-Z]+`, 'm'));
  }
});

test('of several models, the broken one is named', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'loramux-start-'));
  t.after(() => rm(folder, { recursive: true }));
  await cp(DEMO, folder, { recursive: true, filter: (file) => !file.endsWith('tokenizer.json') });
  const models = ['--model', `good=${DEMO}`, '--model', `other=${folder}`];
  const { code, said } = await start(t, ...models, '--port', '0', '--state-dir', 'none');
  assert.equal(code, 2);
  assert.match(said, /^loramux: model other: tokenizer\.json is missing from the model folder\n$/m);
});

test('a cache folder that cannot be made is told', { skip: process.platform !== 'linux' }, async (t) => {
  for (const folder of ['/proc/x', '/dev/null/x']) {
    const { code, said } = await start(t, '--model', 'hf://org/name', '--port', '0', '--cache-dir', folder);
    assert.equal(code, 2);
    assert.match(
      said,
      /^loramux: the cache of remote files cannot be used \(E[A-Z]+\); --cache-dir names its folder: E.* '\/[^']+'\n$/,
    );
  }
});

test('onnxruntime keeps nothing to report', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'loramux-start-'));
  t.after(() => rm(folder, { recursive: true }));
  // In such places it reports nothing anyway.
  const { CI, GITHUB_ACTIONS, ORT_DISABLE_TELEMETRY, ORT_RUNNING_UNIT_TESTS, ...others } = process.env;
  const env = { ...others, HOME: folder, XDG_CACHE_HOME: folder };
  const child = spawn(process.execPath, [MAIN, 'serve', '--port', '0', '--state-dir', 'none'], { env });
  t.after(() => child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  for await (const said of child.stdout) if (`${said}`.includes('http://')) break;
  child.kill('SIGTERM');
  assert.deepEqual((await ended)[0], 0);
  const kept = await readdir(folder, { recursive: true });
  assert.deepEqual(
    kept.filter((file) => /DeveloperTools|onnxruntime/i.test(file)),
    [],
  );
});

const columns = (await exactWeightBytes()) === undefined ? 'this processor keeps no converted weights' : false;
test('a cache folder that takes no converted weights is told once, and the server answers', {
  skip: columns,
}, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'loramux-start-'));
  t.after(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, 'converted'), 'a file where the folder would be');
  for (const engines of ['1', '2']) {
    const flags = ['--dtype', 'int8', '--cache-dir', folder, '--engines', engines];
    const { url, output, stop } = await spawnServer(flags);
    const answer = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ inputs: 'How', parameters: { max_new_tokens: 1 } }),
    });
    await stop();
    assert.equal(answer.status, 200);
    const told = output()
      .split('\n')
      .filter((line) => line.includes('converted weights cannot be kept'))
      .map((line) => JSON.parse(line) as { level: string; model: string; folder: string; why: string });
    assert.equal(told.length, 1, output());
    const [{ level, model, folder: named, why }] = told as [(typeof told)[0]];
    assert.deepEqual([level, model, named], ['warn', 'demo', join(folder, 'converted')]);
    assert.match(why, /^E[A-Z]+: .*converted/);
  }
});

test('converted weights and their packed form are kept for the next start', { skip: columns }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'loramux-start-'));
  t.after(() => rm(folder, { recursive: true }));
  const { stop } = await spawnServer(['--dtype', 'int8', '--cache-dir', folder, '--log-level', 'error']);
  const kept = async () =>
    (await readdir(join(folder, 'converted'))).filter((name) => /\.[a-z0-9-]*columns\d+u?$/.test(name));
  try {
    // The packed form is made once the server has nothing else to do.
    for (let i = 0; i < 300 && (await kept()).length < 2; i += 1) await new Promise((go) => setTimeout(go, 100));
    assert.equal((await kept()).length, 2);
  } finally {
    await stop();
  }
  // What writers left that were killed long ago; the younger ones may still be writing.
  const left = ['packing.abcdef', 'a.columns2u.1.tmp', 'packing.young'].map((name) => join(folder, 'converted', name));
  const [killed, file] = left as [string, string];
  for (const made of left) await mkdir(made);
  await writeFile(join(killed, 'products.bin'), 'half');
  const old = new Date(Date.now() - 86_400_000);
  for (const made of [killed, file]) await utimes(made, old, old);
  const next = await spawnServer(['--dtype', 'int8', '--cache-dir', folder, '--log-level', 'error']);
  t.after(next.stop);
  const there = async () => (await readdir(join(folder, 'converted'))).sort();
  for (let i = 0; i < 300 && (await there()).length > 3; i += 1) await new Promise((go) => setTimeout(go, 100));
  assert.deepEqual(await there(), [...(await kept()), 'packing.young'].sort());
});

const isolated = spawnSync('unshare', ['--pid', '--fork', 'true']).status === 0;
const skip = isolated ? false : 'no process may be the first one of a space of its own here';
test('the first process of a container ends by a signal while it loads', { skip }, async (t) => {
  // A source that never answers: nothing but the signal ends the start.
  const silent = net.createServer().listen(0, '127.0.0.1');
  await once(silent, 'listening');
  t.after(() => silent.close());
  const hub = `http://127.0.0.1:${(silent.address() as net.AddressInfo).port}`;
  const cache = await mkdtemp(join(tmpdir(), 'loramux-start-'));
  t.after(() => rm(cache, { recursive: true }));
  const serve = [MAIN, 'serve', '--port', '0', '--model', 'org/name', '--hub-endpoint', hub, '--cache-dir', cache];
  const inside = ['--pid', '--fork', '--kill-child', process.execPath, ...serve];
  const child = spawn('unshare', inside, { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  const [socket] = (await once(silent, 'connection')) as [net.Socket];
  t.after(() => socket.destroy());
  const [first] = (await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8')).split(' ');
  process.kill(Number(first), 'SIGTERM');
  const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(30_000) });
  assert.equal(code, 1);
});

test('a start that a signal ends in the middle of a download leaves no lock that others wait for', async (t) => {
  const stalling = createServer((_, response) => response.writeHead(200, { 'content-length': 1000 }).write('a'));
  await once(stalling.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    stalling.close();
    stalling.closeAllConnections();
  });
  const cache = await mkdtemp(join(tmpdir(), 'loramux-start-'));
  t.after(() => rm(cache, { recursive: true }));
  const model = `http://127.0.0.1:${(stalling.address() as net.AddressInfo).port}/m.tgz#sha256=${'a'.repeat(64)}`;
  const flags = ['--port', '0', '--model', model, '--cache-dir', cache, '--state-dir', 'none'];
  const child = spawn(process.execPath, [MAIN, 'serve', ...flags], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  const locks = () => readdir(join(cache, 'sources', 'locks')).catch(() => []);
  await once(stalling, 'request');
  assert.equal((await locks()).length, 1);
  child.kill('SIGTERM');
  const [code, signal] = await once(child, 'exit', { signal: AbortSignal.timeout(30_000) });
  // Below npm the command listens itself, and ends with the code that the signal would give.
  assert.ok(signal === 'SIGTERM' || code === 128 + 15, `${code} ${signal}`);
  assert.deepEqual(await locks(), []);
});

test('a server goes on, and ends when it is told to, when nobody reads what it writes any more', async (t) => {
  for (const early of [true, false]) {
    const child = spawn(process.execPath, [MAIN, 'serve', '--port', '0', '--state-dir', 'none']);
    t.after(() => child.kill('SIGKILL'));
    if (early) child.stderr.destroy();
    let said = '';
    for await (const chunk of child.stdout) {
      said += chunk;
      if (/http:\S+/.test(said)) break;
    }
    const [url] = /http:\S+/.exec(said) ?? [];
    assert.ok(url, said);
    child.stdout.destroy();
    child.stderr.destroy();
    for (let i = 0; i < 3; i += 1) {
      const answer = await fetch(`${url}/invocations`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ inputs: 'How', parameters: { max_new_tokens: 1 } }),
        signal: AbortSignal.timeout(30_000),
      });
      assert.equal(answer.status, 200);
    }
    child.kill('SIGTERM');
    const [code] = await once(child, 'exit', { signal: AbortSignal.timeout(60_000) });
    assert.equal(code, 0);
  }
});

test('a second signal ends a server with exit code 1, whatever it is at, and whoever waits is told why', async (t) => {
  for (let i = 0; i < 3; i += 1) {
    const child = spawn(process.execPath, [MAIN, 'serve', '--port', '0', '--state-dir', 'none', '--threads', '1']);
    t.after(() => child.kill('SIGKILL'));
    const errors = text(child.stderr);
    let said = '';
    for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
      said += chunk;
      if (/http:\S+/.test(said)) break;
    }
    child.stdout.resume();
    const inputs = Array.from({ length: 16 }, () => 'How is the weather');
    const body = JSON.stringify({ inputs, parameters: { max_new_tokens: 900, ignore_eos: true } });
    const headers = { 'content-type': 'application/json' };
    const [url] = /http:\S+/.exec(said) ?? [];
    const answer = fetch(`${url}/invocations`, { method: 'POST', headers, body }).then((response) => response.json());
    await new Promise((resolve) => setTimeout(resolve, 500));
    child.kill('SIGTERM');
    // Those that come sooner are the first one, passed on.
    await new Promise((resolve) => setTimeout(resolve, 1200));
    child.kill('SIGTERM');
    const [code, signal] = await once(child, 'exit', { signal: AbortSignal.timeout(60_000) });
    assert.deepEqual([code, signal], [1, null], await errors);
    assert.match(await errors, /second signal: ending at once/);
    assert.equal(((await answer) as { reason: string }).reason, 'SHUTTING_DOWN');
  }
});
