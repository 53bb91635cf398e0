/** Workflows of one name or one adapter, on two real servers that share a state folder. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { spawnServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

test('versions of a workflow are followed one by one, and unregistering twice gives back once', {
  timeout: 120_000,
}, async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-versions-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const flags = ['--state-dir', dir, '--log-level', 'fatal', '--allow-path', DEMO];
  const servers = await Promise.all([spawnServer(flags), spawnServer(flags)]);
  t.after(() => Promise.all(servers.map((server) => server.stop())));
  const ask = async (server: number, method: string, place: string, body?: object) => {
    const init = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const answer = await fetch(servers[server]!.url + place, { method, ...init });
    return { status: answer.status, text: await answer.text() };
  };
  const register = async (name: string, version?: string) => {
    const configs = { adapters: { shared: { model: 'm', src: path.join(DEMO, 'adapters', 'pirate') } } };
    const workflow = { out: ['adapter', 'shared', 'in'] };
    const made = await ask(0, 'POST', '/workflows', { name, version, models: { m: DEMO }, configs, workflow });
    assert.equal(made.status, 200, made.text);
  };
  const predict = (server: number, name: string) =>
    ask(server, 'POST', `/predictions/${name}`, { inputs: 'Hello', parameters: { max_new_tokens: 4 } });
  /** Waits until the second server tells of a workflow what the first one does. */
  const followed = async (name: string) => {
    const { text } = await ask(0, 'GET', `/workflows/${name}`);
    const known = (JSON.parse(text) as unknown[]).length;
    for (;;) {
      const other = await ask(1, 'GET', `/workflows/${name}`);
      if (other.status === 200 && (JSON.parse(other.text) as unknown[]).length === known) return;
      await delay(20);
    }
  };

  await register('w', '2');
  await followed('w');
  await register('w');
  await followed('w');

  await register('last');
  const deleted = await Promise.all([ask(0, 'DELETE', '/workflows/w'), ask(0, 'DELETE', '/workflows/w')]);
  assert.ok(deleted.some(({ status }) => status === 200));
  const answer = await predict(0, 'last');
  assert.equal(answer.status, 200, `its adapter is there: ${answer.text}`);
});
