/** A connection that met the lock of another one works as before when the lock is gone. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as wait } from 'node:timers/promises';
import { Kysely } from 'kysely';
import Database from 'libsql/promise';
import { libsqlDialect } from '../../server/registry/libsql-dialect.js';

test('a query waits for a database that another connection has locked; writing goes on, with what that one wrote', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-libsql-'));
  const file = join(dir, 'registry.db');
  const other = new Database(file, {});
  const own = new Database(file, {});
  const db = new Kysely<{ item: { number: number } }>({ dialect: libsqlDialect(own) });
  t.after(async () => {
    await db.destroy();
    other.close();
    rmSync(dir, { recursive: true });
  });
  const numbers = async () => (await db.selectFrom('item').select('number').execute()).map(({ number }) => number);

  await other.exec('create table item (number integer)');
  assert.deepEqual(await numbers(), []);
  await other.exec('begin exclusive');
  await other.exec('insert into item values (1)');
  const waiting = numbers();
  waiting.catch(() => {});
  await wait(30);
  await other.exec('commit');
  assert.deepEqual(await waiting, [1]);

  await other.exec('pragma journal_mode = wal');
  assert.deepEqual(await numbers(), [1]);
  await other.exec('insert into item values (2)');
  assert.deepEqual(await numbers(), [1, 2]);
  await db.transaction().execute((writing) => writing.insertInto('item').values({ number: 3 }).execute());
  assert.deepEqual(await numbers(), [1, 2, 3]);
});
