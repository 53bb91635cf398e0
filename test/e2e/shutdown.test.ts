/** What those are told who wait for something when the real server is told to end. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { until } from '../rest/http.js';
import { spawnServer } from '../rest/served.js';

test('whoever waits for a source that does not answer is told of the shutdown, whatever it is wanted for', async (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-shutdown-'));
  t.after(() => rmSync(dir, { recursive: true }));
  let fetched = 0;
  const stalling = createServer((_, response) => {
    fetched += 1;
    response.writeHead(200, { 'content-length': 1000 }).write('a');
  });
  await once(stalling.listen(0, '127.0.0.1'), 'listening');
  t.after(() => {
    stalling.close();
    stalling.closeAllConnections();
  });
  const origin = `http://127.0.0.1:${(stalling.address() as AddressInfo).port}`;
  const flags = ['--state-dir', 'none', '--cache-dir', dir, '--allow-source', `${origin}/*`, '--grace-ms', '100'];
  const { url, stop } = await spawnServer([...flags, '--log-level', 'fatal']);
  t.after(stop);
  const source = (name: string) => encodeURIComponent(`${origin}/${name}.tgz#sha256=${'a'.repeat(64)}`);
  const kept = await fetch(`${url}/adapters?name=late&src=${source('late')}&preload=false`, { method: 'POST' });
  assert.equal(kept.status, 200, await kept.text());
  const body = JSON.stringify({ inputs: 'Hello', adapters: 'late', parameters: { max_new_tokens: 1 } });
  const answers = [
    fetch(`${url}/adapters?name=a&src=${source('a')}`, { method: 'POST' }),
    fetch(`${url}/adapters/pirate/update?src=${source('b')}`, { method: 'POST' }),
    fetch(`${url}/adapters/json/update?src=${source('c')}&preload=false`, { method: 'POST' }),
    fetch(`${url}/adapters/validate?src=${source('d')}`, { method: 'POST' }),
    fetch(`${url}/models?model_name=m&url=${source('e')}`, { method: 'POST' }),
    fetch(`${url}/invocations`, { method: 'POST', headers: { 'content-type': 'application/json' }, body }),
  ];
  await until(() => fetched === answers.length);
  const [told] = await Promise.all([Promise.all(answers), stop()]);
  for (const answer of told) {
    assert.deepEqual([answer.status, ((await answer.json()) as { reason: string }).reason], [503, 'SHUTTING_DOWN']);
  }
  assert.deepEqual(readdirSync(path.join(dir, 'sources', 'locks')), []);
});
