/** A registry that cannot be opened says which file, why, and what to do; and what is another program's stays as it is. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import Database from 'libsql/promise';
import { openSqlite } from '../../server/registry/open-sqlite.js';
import { listening, UNHEARD } from './stores.js';

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

const author = { actor: 'tester', requestId: 'r' };
const put = (name: string) => ({ key: { kind: 'k', scope: '', name }, body: name, note: { action: 'put' } });

/** What a server that was killed leaves behind, after a change of each name. */
async function killedAfter(t: TestContext, names: readonly string[]): Promise<string> {
  const [dir, copy] = [stateDir(t), stateDir(t)];
  const store = await openSqlite(dir, UNHEARD);
  for (const name of names) await store.write([put(name)], author);
  for (const file of readdirSync(dir)) copyFileSync(join(dir, file), join(copy, file));
  await store.close();
  return copy;
}

async function namesIn(dir: string, news = UNHEARD): Promise<string[]> {
  const store = await openSqlite(dir, news);
  const { records } = await store.list('k');
  await store.close();
  return records.map(({ name }) => name);
}

/** The log of SQLite: where its frames begin, and which of them end a transaction. */
function framesOf(log: Buffer): { at: number; commits: boolean }[] {
  const size = 24 + log.readUInt32BE(8);
  return Array.from({ length: (log.length - 32) / size }, (_, i) => 32 + i * size).map((at) => ({
    at,
    commits: log.readUInt32BE(at + 4) > 0,
  }));
}

const NAMES = ['a', 'b', 'c', 'd'];

test('a log that is damaged before changes that were acknowledged ends the start with how to go on', async (t) => {
  const dir = await killedAfter(t, NAMES);
  const file = join(dir, 'registry.db-wal');
  const whole = readFileSync(file);
  const frames = framesOf(whole);
  const ends = frames.filter(({ commits }) => commits).map(({ at }) => at);
  const last = ends.at(-2)!;
  for (const [at, right] of [
    ...frames.filter(({ at }) => at <= last).map(({ at }) => [at + 24 + 1000, at]),
    ...frames.filter(({ at }) => at < last).map(({ at }) => [at + 16, at]),
    ...[0, 3, 9, 17, 25].map((at) => [at, 0]),
  ] as [number, number][]) {
    const spoilt = Buffer.from(whole);
    spoilt[at]! ^= 1;
    writeFileSync(file, spoilt);
    await assert.rejects(openSqlite(dir, UNHEARD), {
      reason: 'REGISTRY_UNAVAILABLE',
      message: new RegExp(`its log .*-wal is damaged at byte ${right}, .* by: truncate -s ${right} .*-wal$`),
    });
    assert.deepEqual(readFileSync(file), spoilt);
  }
  // What is before the damage is used when it is cut off there.
  writeFileSync(file, whole.subarray(0, frames[frames.findIndex(({ at }) => at === last) + 1]!.at));
  assert.deepEqual(await namesIn(dir), NAMES.slice(0, -1));
});

test('a log that a crash has ended in the middle of a commit is used up to there', async (t) => {
  const dir = await killedAfter(t, NAMES);
  const file = join(dir, 'registry.db-wal');
  const whole = readFileSync(file);
  const frames = framesOf(whole);
  const torn = frames.at(-2)!.at;
  // Before what was written is on the disk, any part of it may be missing.
  writeFileSync(file, whole.fill(0, torn, torn + 2000));
  assert.deepEqual(await namesIn(dir), NAMES.slice(0, -1));
});

test('a log that is gone is told', async (t) => {
  const dir = await killedAfter(t, NAMES);
  rmSync(join(dir, 'registry.db-wal'));
  const { heard, news } = listening();
  await namesIn(dir, news);
  assert.equal(heard.length, 1);
  assert.match(heard[0]!, /its log \S+registry\.db-wal is gone; what was changed last may be missing/);
  const again = listening();
  await namesIn(dir, again.news);
  assert.deepEqual(again.heard, []);
});

test('the file alone has everything when its server has ended, and when the next one has started', async (t) => {
  const copyOf = (dir: string): string => {
    const copy = stateDir(t);
    copyFileSync(join(dir, 'registry.db'), join(copy, 'registry.db'));
    return copy;
  };
  const dir = await killedAfter(t, NAMES);
  const store = await openSqlite(dir, UNHEARD);
  assert.deepEqual(await namesIn(copyOf(dir)), NAMES);
  await store.write([put('e')], author);
  await store.close();
  assert.deepEqual(await namesIn(copyOf(dir)), [...NAMES, 'e']);
});

const readOnly = mkdtempSync(join(tmpdir(), 'loramux-read-only-'));
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', readOnly]).status === 0;
after(() => {
  if (mounted) spawnSync('umount', [readOnly]);
  rmSync(readOnly, { recursive: true });
});
test(
  'a state folder that takes no file says so',
  {
    skip: mounted ? false : 'nothing can be made read-only here',
  },
  () => refusal(readOnly, /EROFS: read-only file system, access '[^']*'/),
);

test('a change is refused where the file is gone or another: it would be lost with the process', async (t) => {
  const dir = stateDir(t);
  const store = await openSqlite(dir, UNHEARD);
  t.after(() => store.close());
  const write = (name: string) =>
    store.write([{ key: { kind: 'model', scope: '', name }, body: {}, note: { action: 'create' } }], {
      actor: 'test',
      requestId: 'test',
    });
  await write('a');
  const file = join(dir, 'registry.db');
  renameSync(file, `${file}.aside`);
  await assert.rejects(write('b'), { reason: 'REGISTRY_UNAVAILABLE', message: /registry\.db.*its file is gone: / });
  copyFileSync(`${file}.aside`, file);
  await assert.rejects(write('c'), { reason: 'REGISTRY_UNAVAILABLE', message: /another file is in its place: / });
  renameSync(`${file}.aside`, file);
  await write('d');
  const names = (await store.list('model', '')).records.map(({ name }) => name);
  assert.deepEqual(names, ['a', 'd'], 'what is known stays readable');
});

test('a state folder that is a file says so', async (t) => {
  const dir = join(stateDir(t), 'file');
  writeFileSync(dir, '');
  await refusal(dir, /.*file already exists.*/);
});
