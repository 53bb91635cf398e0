/** A registry in which something was spoilt while no server ran: what can be read is served, and what cannot is told. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'libsql/promise';
import { spawnServer } from '../rest/served.js';

/** A state folder in which a server kept two adapters, an alias, and a workflow with an adapter of its own. */
async function keptState(t: TestContext): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-spoilt-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const server = await spawnServer(['--state-dir', dir, '--log-level', 'error']);
  const adapters = { own: { model: 'm', src: 'adapters/pirate' } };
  const workflow = { name: 'w', version: '1', models: { m: 'demo' }, configs: { adapters } };
  for (const [method, path, body] of [
    ['POST', '/adapters?name=a&src=adapters/json'],
    ['POST', '/adapters?name=b&src=adapters/french'],
    ['PUT', '/aliases/live', { targets: [{ adapter: 'b', share: 1 }] }],
    ['POST', '/workflows', { ...workflow, workflow: { out: ['adapter', 'own', 'in'] } }],
  ] as const) {
    const json = body && { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } };
    const answer = await fetch(server.url + path, { method, ...json });
    assert.equal(answer.status, 200, await answer.text());
  }
  await server.stop();
  return dir;
}

test('records that are no JSON any more are told and left alone, and all others are served', {
  timeout: 60_000,
}, async (t) => {
  const dir = await keptState(t);
  const database = new Database(join(dir, 'registry.db'), {});
  const spoil = (body: string) =>
    database.exec(`update loramux_record set body = '${body}' where name in ('a', 'w/1') or kind = 'left-model'`);
  await database.exec("insert into loramux_record values ('left-model', '', 'gone', '{}', 1)");
  await spoil('{"type":"adap');
  const server = await spawnServer(['--state-dir', dir, '--log-level', 'warn']);
  t.after(server.stop);
  const { adapters } = (await (await fetch(`${server.url}/adapters`)).json()) as { adapters: { name: string }[] };
  const names = adapters.map(({ name }) => name);
  assert.deepEqual(names, ['b', 'french', 'json', 'own', 'pirate', 'polite', 'shout']);
  const answer = await fetch(`${server.url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ inputs: 'How', adapters: ['live'], parameters: { max_new_tokens: 1 } }),
  });
  assert.equal(answer.headers.get('x-loramux-adapter')?.split('@')[0], 'live=b');
  await server.stop();
  assert.match(server.output(), /"adapter":"a",.*a record of the registry cannot be used: ignored/);
  assert.match(server.output(), /the kept workflow w\/1 is not served/);
  const { count } = (await (
    await database.prepare(`select count(*) as count from loramux_record where body = '{"type":"adap'`)
  ).get()) as { count: number };
  assert.equal(count, 2, 'no registration was written over or deleted');
  database.close();
});

test('a damage that the first look does not meet ends the start with what to do', async (t) => {
  const dir = await keptState(t);
  const file = join(dir, 'registry.db');
  const database = new Database(file, {});
  await database.exec('pragma wal_checkpoint(truncate)');
  const page = (await (
    await database.prepare("select rootpage from sqlite_master where type = 'index' and tbl_name = 'loramux_record'")
  ).get()) as { rootpage: number };
  database.close();
  const bytes = readFileSync(file);
  writeFileSync(file, bytes.fill(0xa5, 4096 * (page.rootpage - 1), 4096 * page.rootpage));
  await assert.rejects(
    spawnServer(['--state-dir', dir, '--log-level', 'silent']),
    /ended with 2 .*loramux: the registry \S+ cannot be read: it is damaged; .*--state-dir/s,
  );
});

test('a registry that cannot be opened is told once, and no model is blamed for it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-spoilt-'));
  t.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'registry.db'), 'no database'.repeat(1000));
  await assert.rejects(spawnServer(['--state-dir', dir]), (error: Error) => {
    const told = error.message.match(/the registry \S+ cannot be opened: it is no SQLite database/g);
    assert.equal(told?.length, 1, error.message);
    assert.doesNotMatch(error.message, /model demo/);
    return true;
  });
});
