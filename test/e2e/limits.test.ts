/** What happens to the real server where the system gives it little. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir, totalmem } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { GOLDEN } from '../engine/golden-model.js';
import { spawnServer } from '../rest/served.js';

const FLAGS = ['--model', `${GOLDEN}models/llama`, '--adapters', `${GOLDEN}adapters/llama`, '--log-level', 'error'];

/** A command that starts the one behind it with a limit of the shell's `ulimit`. */
const limited = (limit: string): string[] => ['sh', '-c', `ulimit ${limit}; exec "$@"`, 'sh'];

const posix = { skip: process.platform === 'win32' ? 'there are no such limits' : false };

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** Asks over one connection, which is there from the first request on. */
function onOneConnection(t: TestContext, url: string): (path: string, body?: object) => Promise<Answer> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  return async (path, body) => {
    const sent = request(`${url}${path}`, {
      agent,
      method: body ? 'POST' : 'GET',
      headers: { 'content-type': 'application/json' },
    });
    sent.end(body && JSON.stringify(body));
    const [response] = await once(sent, 'response');
    let text = '';
    for await (const part of response) text += part;
    return { status: response.statusCode, text };
  };
}

/** Opens connections until the server takes no more. @returns closes them */
async function takeAllConnections(url: string): Promise<() => void> {
  const { hostname, port } = new URL(url);
  let refused = false;
  const open: Socket[] = [];
  while (!refused && open.length < 1000) {
    const socket = connect(Number(port), hostname);
    socket.on('error', () => {});
    socket.on('close', () => {
      refused = true;
    });
    socket.write('GET /ping HTTP/1.1\r\nhost: x\r\n');
    open.push(socket);
    await sleep(5);
  }
  assert.ok(refused, 'the limit was reached');
  return () => {
    for (const socket of open) socket.destroy();
  };
}

describe('where connections have taken all file descriptors', posix, () => {
  test('a chat on a connection that is there already is answered', async (t) => {
    const { url, stop } = await spawnServer(FLAGS, {}, limited('-n 200'));
    t.after(stop);
    const ask = onOneConnection(t, url);
    assert.equal((await ask('/ping')).status, 200);
    const release = await takeAllConnections(url);
    const chat = { messages: [{ role: 'user', content: 'a' }], max_tokens: 2 };
    try {
      assert.equal((await ask('/invocations', chat)).status, 200);
      assert.equal((await ask('/invocations', chat)).status, 200);
    } finally {
      release();
    }
  });
});

const mayLimit = spawnSync('prlimit', ['--pid', String(process.pid)]).status === 0;
/** What changes how many files a running process may open. */
const limiter = (pid: number) => (files: number) =>
  assert.equal(spawnSync('prlimit', ['--pid', String(pid), `--nofile=${files}:4096`]).status, 0);

test('a long text for which no thread can be started is refused for now, and read once one can', {
  skip: mayLimit ? false : 'the limits of a running process cannot be changed here',
}, async (t) => {
  const { url, pid, stop } = await spawnServer(['--state-dir', 'none', '--log-level', 'fatal']);
  t.after(stop);
  const ask = onOneConnection(t, url);
  const mayOpen = limiter(pid);
  const request = { inputs: 'Hello there. '.repeat(6000), parameters: { max_new_tokens: 2, truncate: 16 } };
  assert.equal((await ask('/ping')).status, 200);
  // Too few for the thread; then, with more and more, for what it reads first.
  for (let files = 4; ; files += 4) {
    mayOpen(files);
    const { status, text } = await ask('/invocations', request);
    if (status === 200) break;
    assert.deepEqual([status, JSON.parse(text).reason], [503, 'SOURCE_UNAVAILABLE'], text);
  }
});

test('an adapter is read again once there are files to open: that there were none was no fault of it', {
  skip: mayLimit ? false : 'the limits of a running process cannot be changed here',
}, async (t) => {
  const { url, pid, stop } = await spawnServer([...FLAGS, '--state-dir', 'none', '--allow-path', GOLDEN]);
  t.after(stop);
  const ask = onOneConnection(t, url);
  const query = new URLSearchParams({ name: 'late', src: `${GOLDEN}adapters/llama/qv-r4`, preload: 'false' });
  assert.equal((await ask(`/adapters?${query}`, {})).status, 200);
  const mayOpen = limiter(pid);
  const request = { inputs: 'a', adapters: 'late', parameters: { max_new_tokens: 2 } };
  mayOpen(4);
  const refused = await ask('/invocations', request);
  assert.deepEqual([refused.status, JSON.parse(refused.text).reason], [503, 'SOURCE_UNAVAILABLE'], refused.text);
  mayOpen(4096);
  const { status, text } = await ask('/invocations', request);
  assert.equal(status, 200, text);
});

test('a start says where its budgets are more than the memory that it may have', async (t) => {
  const more = Math.round(2 * totalmem());
  const flags = ['--state-dir', 'none', '--log-level', 'warn'];
  const { output, stop } = await spawnServer([...flags, '--adapter-bytes', `${more}`]);
  t.after(stop);
  assert.match(output(), /--adapter-bytes allow [\d.]+ GiB together[^"]*, but this process may have [\d.]+ GiB/);
  const fits = await spawnServer([
    ...flags,
    '--adapter-bytes',
    '1MiB',
    '--kv-bytes',
    '1MiB',
    '--prefix-cache-bytes',
    '0',
  ]);
  t.after(fits.stop);
  assert.doesNotMatch(fits.output(), /together/);
});

/** How a start ends that does not come to serve. */
async function failedStart(
  flags: readonly string[],
  before: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const { stop } = await spawnServer(flags, env, before).catch((error: Error) => ({ stop: error.message }));
  if (typeof stop === 'string') return stop;
  await stop();
  return 'it serves';
}

describe('a start with too little', posix, () => {
  test('says in one line that it may not open enough files, also where a library of its registry is not read', async (t) => {
    const state = mkdtempSync(join(tmpdir(), 'loramux-limits-'));
    t.after(() => rmSync(state, { recursive: true }));
    const said = await failedStart(['--state-dir', state, '--log-level', 'silent'], limited('-n 120'));
    assert.match(said, /ended with 2 .*: loramux: this process may not open enough files \(EMFILE\); [^\n]*ulimit -n/);
    assert.equal(said.trimEnd().split('\n').length, 1, said);
  });

  const other = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'];
  const asOther = spawnSync(other[0]!, [...other.slice(1), process.execPath, '--version']).status === 0;
  test('says in one line that it may not start enough threads', {
    skip: asOther ? false : 'no process of another user, whom the limit holds for, may be started here',
  }, async () => {
    const flags = ['--state-dir', 'none', '--cache-dir', join(tmpdir(), 'nowhere'), '--log-level', 'silent'];
    const told: string[] = [];
    for (let most = 9; most < 30; most += 1) {
      const said = await failedStart(flags, ['prlimit', `--nproc=${most}`, ...other], { HOME: '/nonexistent' });
      if (said === 'it serves') break;
      // With fewer than it takes to run JavaScript, Node ends itself.
      if (!/ended with null/.test(said)) told.push(said);
    }
    assert.ok(told.length > 0);
    for (const said of told) {
      assert.match(said, /ended with 2 .*: loramux: this process may not start enough threads \(EAGAIN\); [^\n]*\n$/);
    }
  });
});
