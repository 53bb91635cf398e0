/** What happens to the real server when clients leave, flood it, or it is told to stop. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

const FLAGS = ['--model', `${GOLDEN}models/llama`, '--adapters', `${GOLDEN}adapters/llama`, '--log-level', 'error'];
const LONG = { stream: true, parameters: { max_new_tokens: 240, ignore_eos_token: true } };

const post = (url: string, body: object, signal?: AbortSignal) =>
  fetch(`${url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...(signal && { signal }),
  });

/** Value of a metric, summed over its labels. */
async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith(name) && !line.startsWith('#'));
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
}

/** Waits until `holds` gives true; fails after ten seconds. */
async function eventually(holds: () => Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 200; i += 1) {
    if (await holds()) return;
    await sleep(50);
  }
  assert.fail(what);
}

describe('faults', () => {
  test('a stream that its client leaves stops decoding, and the others do not notice', async (t) => {
    const url = await startServer(t, FLAGS);
    const wanted = await (await post(url, { inputs: 'a', adapters: 'all-r8', ...LONG })).text();
    const leaving = new AbortController();
    const left = await post(url, { inputs: ['x', 'y', 'z'], adapters: ['qv-r4', 'dora', ''], ...LONG }, leaving.signal);
    const staying = post(url, { inputs: 'a', adapters: 'all-r8', ...LONG }).then((response) => response.text());
    await left.body!.getReader().read();
    leaving.abort();
    const strip = (text: string) => [...text.matchAll(/"id":(\d+)/g)].map(([, id]) => id);
    assert.deepEqual(strip(await staying), strip(wanted));
    await eventually(async () => (await metric(url, 'loramux_running_rows')) === 0, 'rows are freed');
    const steps = await metric(url, 'loramux_steps_total');
    await sleep(200);
    assert.equal(await metric(url, 'loramux_steps_total'), steps, 'nothing decodes any more');
    assert.equal(await metric(url, 'loramux_kv_bytes'), 0);
  });

  test('a deleted adapter is gone for new requests while a running row finishes with it', async (t) => {
    const url = await startServer(t, FLAGS);
    const body = {
      inputs: 'a',
      adapters: 'all-r8',
      parameters: { max_new_tokens: 240, ignore_eos_token: true, details: true },
    };
    const alone = (await (await post(url, body)).json()) as { details: { tokens: { id: number }[] } };
    const running = post(url, body);
    await eventually(async () => (await metric(url, 'loramux_running_rows')) > 0, 'the row runs');
    const deleted = await fetch(`${url}/adapters/all-r8`, { method: 'DELETE' });
    assert.equal(deleted.status, 200);
    assert.equal((await post(url, body)).status, 424);
    const finished = (await (await running).json()) as typeof alone;
    assert.deepEqual(
      finished.details.tokens.map(({ id }) => id),
      alone.details.tokens.map(({ id }) => id),
    );
    await eventually(async () => (await metric(url, 'loramux_adapters_loaded')) < 34, 'its weights are freed');
  });

  test('more rows than the queue holds are refused at once, with nothing enqueued', async (t) => {
    const url = await startServer(t, [...FLAGS, '--max-queue', '2']);
    const response = await post(url, { inputs: ['a', 'b', 'c'] });
    // Not QUEUE_FULL, after which clients would try again.
    assert.equal(response.status, 400);
    const { reason, message } = (await response.json()) as { reason: string; message: string };
    assert.equal(reason, 'INVALID_REQUEST');
    assert.match(message, /3 rows, but at most 2 may wait or run/);
    assert.equal((await post(url, { inputs: ['a', 'b'] })).status, 200);
  });

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    test(`${signal} lets a running stream finish, refuses new work, and ends with code 0`, async () => {
      const main = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));
      const child = spawn(process.execPath, [main, 'serve', '--port', '0', ...FLAGS], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [data] = (await once(child.stdout, 'data')) as [Buffer];
      const url = /http:\/\/\S+/.exec(data.toString())![0];
      const response = await post(url, { inputs: 'a', adapters: 'mlp-r16', ...LONG });
      const reader = response.body!.getReader();
      let text = new TextDecoder().decode((await reader.read()).value);
      child.kill(signal);
      await sleep(100);
      await assert.rejects(post(url, { inputs: 'late' }), 'new connections are refused');
      for (let part = await reader.read(); !part.done; part = await reader.read())
        text += new TextDecoder().decode(part.value);
      assert.match(text.trim().split('\n').at(-1)!, /"generated_text":/);
      const [code] = (await once(child, 'exit')) as [number];
      assert.equal(code, 0);
    });
  }

  /** Starts a server whose steps never return, waits until that is noticed, and resolves with the process. */
  async function stuckServer(t: TestContext, before: readonly string[] = []): Promise<ChildProcess> {
    const main = fileURLToPath(new URL('../../bin/loramux.mjs', import.meta.url));
    const hang = new URL('./hanging-run.mjs', import.meta.url).href;
    const flags = [...FLAGS.slice(0, -1), 'fatal', '--step-timeout', '1', '--grace-ms', '300'];
    const [program, ...args] = [...before, process.execPath, main, 'serve', '--port', '0', ...flags];
    const child = spawn(program!, args, {
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, NODE_OPTIONS: `--import ${hang}` },
    });
    t.after(() => child.kill('SIGKILL'));
    const [data] = (await once(child.stdout, 'data')) as [Buffer];
    const url = /http:\/\/\S+/.exec(data.toString())![0];
    const stuck = await post(url, { inputs: 'a' });
    assert.equal(stuck.status, 503);
    assert.equal(((await stuck.json()) as { reason: string }).reason, 'ENGINE_STALLED');
    assert.equal((await fetch(`${url}/ping`)).status, 500);
    return child;
  }

  test('a server whose engine hangs in a native call answers for it, and SIGTERM ends it nevertheless', async (t) => {
    const child = await stuckServer(t);
    child.kill('SIGTERM');
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    assert.deepEqual([code, signal], [null, 'SIGKILL']);
  });

  const isolated = spawnSync('unshare', ['--pid', '--fork', 'true']).status === 0;
  test('so does the first process of a container, which no signal of its own ends', {
    skip: isolated ? false : 'no process may be the first one of a space of its own here',
  }, async (t) => {
    const child = await stuckServer(t, ['unshare', '--pid', '--fork', '--kill-child']);
    const [first] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').split(' ');
    process.kill(Number(first), 'SIGTERM');
    const [code, signal] = await once(child, 'exit', { signal: AbortSignal.timeout(30_000) });
    assert.ok(code !== 0, `${code} ${signal}`);
  });
});
