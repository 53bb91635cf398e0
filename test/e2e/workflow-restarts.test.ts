/** Workflows of a state folder after a restart: who answers for a name, and what becomes of one that cannot come back. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Database from 'libsql/promise';
import { LoramuxClient } from '../../sdk/node.js';
import { spawnServer } from '../rest/served.js';

const DEMO = fileURLToPath(new URL('../../models/demo', import.meta.url));

async function restartable(t: TestContext) {
  const dir = mkdtempSync(path.join(tmpdir(), 'loramux-restarts-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  let server: Awaited<ReturnType<typeof spawnServer>> | undefined;
  t.after(() => server?.stop());
  const ask = async (method: string, place: string, body?: object) => {
    const init = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const answer = await fetch(server!.url + place, { method, ...init });
    return {
      status: answer.status,
      receipt: answer.headers.get('x-loramux-adapter'),
      json: JSON.parse(await answer.text()),
    };
  };
  return {
    ask,
    url: () => server!.url,
    output: () => server!.output(),
    registry: path.join(dir, 'registry.db'),
    async restart(between?: () => Promise<void>) {
      await server?.stop();
      await between?.();
      server = await spawnServer(['--state-dir', dir, '--model', `demo=${DEMO}`, '--log-level', 'warn']);
    },
    /** Registers a version whose answers tell by their adapter that they are its own. */
    async register(version: string, adapter: string) {
      const configs = { adapters: { [`a${version}`]: { model: 'm', src: path.join(DEMO, 'adapters', adapter) } } };
      const workflow = { out: ['adapter', `a${version}`, 'in'] };
      return ask('POST', '/workflows', { name: 'w', version, models: { m: 'demo' }, configs, workflow });
    },
    answer: (name: string) => ask('POST', `/predictions/${name}`, { inputs: 'How', parameters: { max_new_tokens: 1 } }),
  };
}

test('the version of a workflow that was registered last answers for its name after a restart, too', async (t) => {
  const { restart, register, answer, ask } = await restartable(t);
  await restart();
  for (const [version, adapter] of [
    ['2', 'french'],
    ['10', 'json'],
    ['1', 'pirate'],
  ] as const)
    assert.equal((await register(version, adapter)).status, 200);
  const before = await answer('w');
  assert.match(before.receipt!, /^a1@/);
  await restart();
  assert.equal((await answer('w')).receipt, before.receipt);
  const versions = (await ask('GET', '/workflows/w')).json.map(({ version }: { version: string }) => version);
  assert.deepEqual(versions, ['1', '10', '2']);
});

test('a kept workflow that cannot come back is told, answers for nothing, and can be unregistered', async (t) => {
  const { restart, register, answer, ask, registry, output, url } = await restartable(t);
  await restart();
  await register('1', 'french');
  await register('2', 'pirate');
  await restart(async () => {
    // An older server may have kept what is refused now.
    const database = new Database(registry, {});
    const kept = `replace(body, 'adapters/pirate\\"', 'adapters/pirate\\",\\"options\\":{\\"weight\\":\\"0.5\\"}')`;
    await database.exec(`update loramux_record set body = ${kept} where name = 'w/2'`);
    database.close();
  });
  const why = /configs\.adapters\.a2\.options\.weight .*: would choose what answers, and nothing reads it/;
  assert.match(output(), why);
  for (const name of ['w', 'w/2']) {
    const refused = await answer(name);
    assert.deepEqual(
      [refused.status, refused.json.reason],
      [503, 'MODEL_NOT_READY'],
      'no older version answers for it',
    );
    assert.match(refused.json.message, /^workflow "w\/2" is not served: /);
    assert.match(refused.json.message, why);
  }
  assert.match((await answer('w/1')).receipt!, /^a1@/);
  const [first, second] = (await ask('GET', '/workflows/w')).json;
  assert.deepEqual([first.version, first.error, second.version], ['1', undefined, '2']);
  assert.match(second.error, why);
  const client = new LoramuxClient({ baseUrl: url() });
  assert.match((await client.workflows.get('w', { version: '2' })).error, why);
  client.close();
  const taken = await register('2', 'json');
  assert.deepEqual([taken.status, taken.json.reason], [409, 'WORKFLOW_EXISTS']);
  assert.match(taken.json.message, /^workflow "w\/2" is registered, but not served: .*; unregister it first$/);

  assert.equal((await ask('DELETE', '/workflows/w/2')).status, 200);
  assert.match((await answer('w')).receipt!, /^a1@/);
  assert.equal((await ask('GET', '/adapters/a2')).status, 404, 'its adapter goes with it');
  assert.equal((await register('2', 'json')).status, 200);
  await restart();
  assert.match((await answer('w')).receipt!, /^a2@/);
  assert.doesNotMatch(output(), /is not served/);
});
