/** A registry that cannot be opened says which file, why, and what to do; and what is another program's stays as it is. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'libsql/promise';
import { openSqlite } from '../../server/registry/open-sqlite.js';
import { UNHEARD } from './stores.js';

function stateDir(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-state-'));
  t.after(() => rmSync(dir, { recursive: true }));
  return dir;
}

async function refusal(dir: string, why: RegExp): Promise<void> {
  const file = join(dir, 'registry.db').replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  await assert.rejects(openSqlite(dir, UNHEARD), {
    reason: 'REGISTRY_UNAVAILABLE',
    message: new RegExp(`^the registry ${file} cannot be opened: ${why.source}; .*--state-dir`),
  });
}

test('a folder, a text and half a database are told apart', async (t) => {
  const dir = stateDir(t);
  const file = join(dir, 'registry.db');
  mkdirSync(file);
  await refusal(dir, /it is a folder/);
  rmSync(file, { recursive: true });
  writeFileSync(file, 'not a database, but a text of some length\n'.repeat(100));
  await refusal(dir, /it is no SQLite database/);
  rmSync(file);
  const other = new Database(file, {});
  await other.exec('create table users (id integer); create table more (id integer)');
  other.close();
  writeFileSync(file, readFileSync(file).subarray(0, 5000));
  await refusal(dir, /it is damaged/);
});

test('the database of another program is refused, and not changed', async (t) => {
  const dir = stateDir(t);
  const file = join(dir, 'registry.db');
  const other = new Database(file, {});
  await other.exec('create table users (id integer)');
  other.close();
  const before = readFileSync(file);
  await refusal(dir, /it is the database of another program, with the tables users/);
  assert.deepEqual(readFileSync(file), before);
  assert.deepEqual(readdirSync(dir), ['registry.db']);
});

test('a state folder that is a file says so', async (t) => {
  const dir = join(stateDir(t), 'file');
  writeFileSync(dir, '');
  await refusal(dir, /.*file already exists.*/);
});
