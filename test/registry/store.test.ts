import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { AppError } from '../../server/errors.js';
import { MemoryStore } from '../../server/registry/memory-store.js';
import { openPostgres } from '../../server/registry/open-postgres.js';
import { openSqlite } from '../../server/registry/open-sqlite.js';
import { RegistryConflict, type RegistryStore } from '../../server/registry/types.js';
import { author, followed, key, put, unavailable } from './changes.js';
import { listening, NO_POSTGRES, postgresDatabase, sqliteDatabase, type TestDatabase, UNHEARD } from './stores.js';

function contract(name: string, make: () => Promise<TestDatabase>, skip: string | false): void {
  describe(`the registry on ${name}`, { skip }, () => {
    const database = async (t: TestContext): Promise<TestDatabase> => {
      const made = await make();
      t.after(() => made.drop());
      return made;
    };
    const opened = async (t: TestContext, on: TestDatabase): Promise<RegistryStore> => {
      const store = await on.open();
      t.after(() => store.close());
      return store;
    };

    it('keeps records and the log over a restart, and counts revisions on', async (t) => {
      const on = await database(t);
      const first = await on.open();
      assert.equal(await first.write([put('a', { x: 'ä"' }), put('b', [1])], author), 1);
      assert.equal(await first.write([put('b', null)], author), 2);
      await first.close();
      const store = await opened(t, on);
      assert.deepEqual(await store.list('adapter'), {
        records: [{ ...key('a'), body: { x: 'ä"' }, revision: 1 }],
        revision: 2,
      });
      assert.equal(await store.get(key('b')), undefined);
      assert.equal(await store.write([put('b', 0)], author), 3);
      const events = await store.events({ limit: 10 });
      assert.deepEqual(
        events.map(({ revision, ordinal, name, action, actor }) => [revision, ordinal, name, action, actor]),
        [
          [3, 0, 'b', 'put', 'tester'],
          [2, 0, 'b', 'delete', 'tester'],
          [1, 1, 'b', 'put', 'tester'],
          [1, 0, 'a', 'put', 'tester'],
        ],
      );
      const [, second] = events;
      const rest = await store.events({ name: 'b', before: second!, limit: 1 });
      assert.deepEqual(
        rest.map(({ revision, ordinal }) => [revision, ordinal]),
        [[1, 1]],
      );
    });

    it('makes all changes of a write or none', async (t) => {
      const store = await opened(t, await database(t));
      await store.write([put('a', 1)], author);
      await assert.rejects(store.write([put('b', 1), put('a', 2, 0)], author), RegistryConflict);
      await assert.rejects(store.write([put('b', 1), put('c', 2, 7)], author), RegistryConflict);
      assert.deepEqual((await store.list('adapter', 'm')).records, [{ ...key('a'), body: 1, revision: 1 }]);
      assert.equal((await store.events({ limit: 10 })).length, 1);
      assert.equal(await store.write([put('a', 2, 1)], author), 2);
    });

    it('lets one of several writers win, in one process and in several', async (t) => {
      const on = await database(t);
      const stores = [await opened(t, on), await opened(t, on)];
      const writes = Array.from({ length: 12 }, (_, i) => stores[i % 2]!.write([put('a', i, 0)], author));
      const results = await Promise.allSettled(writes);
      assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 1);
      for (const result of results)
        if (result.status === 'rejected') assert.ok(result.reason instanceof RegistryConflict);
      await Promise.all(Array.from({ length: 20 }, (_, i) => stores[i % 2]!.write([put(`n${i}`, i)], author)));
      const { records, revision } = await stores[0]!.list('adapter');
      assert.equal(records.length, 21);
      assert.equal(new Set(records.map((record) => record.revision)).size, 21, 'a revision for each');
      assert.equal(revision, Math.max(...records.map((record) => record.revision)));
    });

    it('tells followers every change, also of other processes, in order', async (t) => {
      const on = await database(t);
      const [here, there] = [await opened(t, on), await opened(t, on)];
      await here.write([put('before', 1)], author);
      const { seen, until, stop } = followed(here, 1);
      await there.write([put('a', 1), put('b', 1)], author);
      await here.write([put('c', 1)], author);
      await there.write([put('a', null)], author);
      await until((all) => all.some(({ key: { name }, record }) => name === 'a' && record === undefined));
      await stop();
      assert.ok(!seen.some(({ key: { name } }) => name === 'before'));
      assert.ok(seen.some(({ key: { name } }) => name === 'b') && seen.some(({ key: { name } }) => name === 'c'));
      const revisions = seen.map(({ revision }) => revision);
      assert.deepEqual(
        revisions,
        revisions.toSorted((x, y) => x - y),
      );
      await there.write([put('d', 1)], author);
      assert.ok(!seen.some(({ key: { name } }) => name === 'd'), 'a stopped follower is not called');
    });

    it('tells followers what comes after a change of more records than one look takes', {
      timeout: 60_000,
    }, async (t) => {
      const on = await database(t);
      const [here, there] = [await opened(t, on), await opened(t, on)];
      const { seen, until, stop } = followed(here);
      const names = Array.from({ length: 1500 }, (_, i) => `n${i}`);
      await there.write(
        names.map((name) => put(name, 1)),
        author,
      );
      await there.write([put('after', 1)], author);
      await until((all) => all.some(({ key: { name } }) => name === 'after'));
      await stop();
      assert.deepEqual(
        seen.map(({ key: { name } }) => name),
        [...names, 'after'],
      );
    });

    it('is read, and followed, while writes wait for another process', { timeout: 60_000 }, async (t) => {
      const on = await database(t);
      if (on.block === undefined) return t.skip('nobody else writes to it');
      const store = await opened(t, on);
      await store.write([put('a', 1)], author);
      const unblock = await on.block();
      const writes = Array.from({ length: 8 }, (_, i) => store.write([put(`b${i}`, i)], author));
      const { seen, stop, until } = followed(store);
      t.after(stop);
      await until(() => seen.length > 0);
      assert.equal((await store.get(key('a')))?.body, 1);
      assert.equal((await store.list('adapter')).records.length, 1);
      assert.equal((await store.events({ limit: 9 })).length, 1);
      await unblock();
      await Promise.all(writes);
      await until(() => seen.length > 8);
    });

    it('takes changes where the head is behind what is stored, or gone, and tells what was put right', async (t) => {
      const on = await database(t);
      if (on.run === undefined) return t.skip('it has no tables');
      const before = await on.open();
      for (const name of ['a', 'b', 'c']) await before.write([put(name, 1)], author);
      await before.close();
      const spoilt: readonly (readonly [string, RegExp])[] = [
        ['update loramux_head set revision = 1', /its count of changes was 1, but it has change 3: .* put right/],
        ['delete from loramux_head', /its count of changes was 0, but it has change 4/],
        ['delete from loramux_event; update loramux_head set revision = 2', /its count of changes was 2, .* change 5/],
      ];
      for (const [statement, told] of spoilt) {
        await on.run(statement);
        const { heard, news } = listening();
        const store = await on.open(news);
        assert.equal(heard.length, 1);
        assert.match(heard[0]!, told);
        await store.write([put('d', statement)], author);
        assert.equal((await store.get(key('d')))?.body, statement);
        await store.close();
      }
      const { heard, news } = listening();
      await (await on.open(news)).close();
      assert.deepEqual(heard, []);
    });

    it('opens once where several processes open a new one at the same time', async (t) => {
      const on = await database(t);
      const stores = await Promise.all([1, 2, 3].map(() => on.open()));
      for (const store of stores) await store.write([put('a', 1)], author);
      for (const store of stores) await store.close();
    });
  });
}

/** Opened again it is the same one; nothing else could be asked of it. */
async function memoryDatabase(): Promise<TestDatabase> {
  const store = new MemoryStore();
  return { place: 'memory', open: async () => store, drop: async () => {} };
}

contract('memory', memoryDatabase, false);
contract('SQLite', sqliteDatabase, false);
contract('Postgres', postgresDatabase, NO_POSTGRES);

it('a registry in memory tells followers of each of many changes', { timeout: 30_000 }, async (t) => {
  const store = new MemoryStore();
  t.after(() => store.close());
  const followers = [followed(store, 0), followed(store, 0), followed(store, 0)];
  for (let change = 1; change <= 40_000; change += 1) {
    await store.write([put('a', change)], author);
    if (change % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  for (const { until, stop } of followers) {
    await until((all) => all.at(-1)?.revision === 40_000);
    await stop();
  }
});

describe('a registry that cannot be used', () => {
  it('in a folder is refused with the reason, and what is there is left', async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'loramux-registry-'));
    t.after(() => rmSync(dir, { recursive: true }));
    writeFileSync(join(dir, 'file'), 'x');
    await assert.rejects(openSqlite(join(dir, 'file'), UNHEARD), unavailable(/file.*cannot be opened: /));
    writeFileSync(
      join(dir, 'registry.db'),
      'this is no database, whatever its name says; it is long enough'.repeat(50),
    );
    await assert.rejects(openSqlite(dir, UNHEARD), unavailable(/cannot be opened: it is no SQLite database/));
  });

  for (const [what, pragma, said] of [
    ['is full', 'max_page_count = 12', /cannot be written: .*full/],
    ['can only be read', 'query_only = on', /cannot be written: .*readonly/],
  ] as const) {
    it(`because it ${what} says so, and keeps what was acknowledged`, async (t) => {
      const on = await sqliteDatabase();
      t.after(() => on.drop());
      const before = await on.open();
      await before.write([put('before', 1)], author);
      await before.close();
      const { heard, news } = listening();
      const store = await openSqlite(on.place, news, [pragma]);
      t.after(() => store.close());
      const kept = ['before'];
      const filling = async () => {
        for (let i = 0; i < 100; i += 1) {
          await store.write([put(`n${i}`, 'x'.repeat(500))], author);
          kept.push(`n${i}`);
        }
      };
      await assert.rejects(filling(), unavailable(said));
      await assert.rejects(store.write([put('again', 'x'.repeat(5000))], author), unavailable(said));
      const { records } = await store.list('adapter');
      assert.deepEqual(records.map(({ name }) => name).sort(), kept.sort());
      assert.equal(heard.length, 1, 'the operator is told once, not for every change that is refused');
      assert.match(heard[0]!, said);
    });
  }

  it('written by a later version is refused', async (t) => {
    const on = await sqliteDatabase();
    t.after(() => on.drop());
    await (await on.open()).close();
    const { default: Database } = await import('libsql');
    const database = new Database(join(on.place, 'registry.db'));
    database.exec('update loramux_schema set version = 99');
    database.close();
    await assert.rejects(on.open(), unavailable(/version 99/));
  });

  it('on a server that is not there is refused without the password', async () => {
    await assert.rejects(openPostgres('postgres://u:secret@127.0.0.1:1/x', UNHEARD), (error: AppError) => {
      assert.doesNotMatch(error.message, /secret/);
      return unavailable(/postgres:\/\/127\.0\.0\.1:1\/x cannot be opened/)(error);
    });
  });
});
