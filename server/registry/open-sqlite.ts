/** The registry in a file of a state folder. */
import { accessSync, chmodSync, constants, existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Kysely } from 'kysely';
import Database from 'libsql/promise';
import { makeFolder } from '../folders.js';
import { libsqlDialect, whenFree } from './libsql-dialect.js';
import { Reachability, type RegistryNews } from './reachability.js';
import { migrate, type RegistryTables } from './schema.js';
import { SqlStore, unusable } from './sql-store.js';
import type { RegistryStore } from './types.js';
import { damageWithin } from './wal-damage.js';

/** How often changes by other processes are looked for. */
const POLL_MS = 300;

/**
 * Opens the registry of a state folder, creating both.
 * @param pragmas further settings of the connection, for example `query_only = on`
 * @throws AppError REGISTRY_UNAVAILABLE
 */
export async function openSqlite(
  stateDir: string,
  news: RegistryNews,
  pragmas: readonly string[] = [],
): Promise<RegistryStore> {
  const file = join(stateDir, 'registry.db');
  let db: Kysely<RegistryTables> | undefined;
  try {
    makeFolder(stateDir);
    requireWholeLog(file, news);
    const database = new Database(file, {});
    db = new Kysely<RegistryTables>({ dialect: libsqlDialect(database) });
    await requireOwn(database);
    // A commit is on the disk before it is acknowledged, and a crash at any time leaves whole transactions only.
    await whenFree(() => database.exec('pragma journal_mode = wal'));
    await database.exec('pragma synchronous = full');
    chmodSync(file, 0o600);
    const repaired = await db.transaction().execute(migrate);
    if (repaired !== undefined) news.remark(`the registry ${file}: ${repaired}`);
    for (const pragma of pragmas) await database.exec(`pragma ${pragma}`);
    // Beside the write-ahead log readers wait for no writer.
    const reachability = new Reachability(news);
    const reads = new Kysely<RegistryTables>({ dialect: libsqlDialect(new Database(file, {})) });
    // A copy of the one file, made while no server runs, has everything then.
    const settle = async () => void (await database.exec('pragma wal_checkpoint(truncate)').catch(() => {}));
    await settle();
    const opened = identityOf(file);
    return new SqlStore(db, reads, {
      ...{ place: file, pollMs: POLL_MS, explain: damageOf, reachability },
      announce: async () => requireSame(file, opened),
      onClose: settle,
      writing: new Reachability({
        lost: (error) =>
          news.remark(`${(error as Error).message}; changes are refused until it can be, and answers go on`),
        back: () => news.remark(`the registry (${file}) can be written again`),
      }),
    });
  } catch (error) {
    await db?.destroy().catch(() => {});
    throw unusable(
      `the registry ${file} cannot be opened`,
      error instanceof DamagedLog ? error : new Error(`${reasonOf(file, error)}; ${REMEDY}`, { cause: error }),
    );
  }
}

const REMEDY = 'put that right, move it away, or name another folder by --state-dir (none keeps nothing)';

/**
 * SQLite opens a database whose log is damaged or gone as if nothing had ever been in it.
 * @throws Error where acknowledged changes would be lost by that
 */
function requireWholeLog(file: string, news: RegistryNews): void {
  const log = `${file}-wal`;
  const damage = damageWithin(log);
  if (damage !== undefined) {
    throw new DamagedLog(
      `its log ${log} is damaged at byte ${damage}, and changes that were acknowledged are behind that; put copies of ` +
        `both files back, or go on without those changes by: truncate -s ${damage} ${log}`,
    );
  }
  if (existsSync(`${file}-shm`) && !existsSync(log))
    news.remark(`the registry ${file}: its log ${log} is gone; what was changed last may be missing`);
}

/** Which file a path leads to; undefined = to none. */
function identityOf(file: string): string | undefined {
  const stats = statSync(file, { bigint: true, throwIfNoEntry: false });
  return stats && `${stats.dev}:${stats.ino}`;
}

/**
 * What is written into a file that no path leads to any more is gone with the process, and was acknowledged.
 * @param opened identity of the file that is written to
 */
function requireSame(file: string, opened: string | undefined): void {
  const now = identityOf(file);
  if (now === opened) return;
  const what = now === undefined ? 'its file is gone' : 'another file is in its place';
  throw new Error(`${what}: put the one back that was there, or end the server and start it with what is there now`);
}

/** Says itself what to do. */
class DamagedLog extends Error {}

/** Nothing is written into the database of another program. */
async function requireOwn(database: Database): Promise<void> {
  const tables = await whenFree(() => database.prepare("select name from sqlite_master where type = 'table'"));
  // The same statement until it is read: see the dialect.
  const names = ((await whenFree(() => tables.all())) as { name: string }[]).map(({ name }) => name);
  if (names.length === 0 || names.some((name) => name.startsWith('loramux_'))) return;
  throw new Error(`it is the database of another program, with the tables ${names.slice(0, 5).join(', ')}`);
}

/** What to do about a damage that is found where only a part of the file is read; other errors as they are. */
function damageOf(error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  return DAMAGED.test(`${code} ${message}`) ? new Error(`it is damaged; ${REMEDY}`, { cause: error }) : error;
}

const DAMAGED = /CORRUPT|malformed/;

/** What SQLite says in numbers and in words of its own. */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/NOTADB|not a database/, 'it is no SQLite database'],
  [DAMAGED, 'it is damaged'],
  [/READONLY|readonly/, 'it cannot be written to'],
  [/FULL|disk is full/, 'its disk is full'],
];

/** Why the file cannot be used, as far as can be found out. */
function reasonOf(file: string, error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  const known = REASONS.find(([words]) => words.test(`${code} ${message}`));
  if (known !== undefined) return known[1];
  try {
    const there = statSync(file, { throwIfNoEntry: false });
    if (there?.isDirectory()) return 'it is a folder';
    // What is not there is to be made in its folder.
    accessSync(there === undefined ? dirname(file) : file, constants.R_OK | constants.W_OK);
  } catch (thrown) {
    const { code: system, message: said } = thrown as NodeJS.ErrnoException;
    if (system === 'EACCES' || system === 'EPERM' || system === 'EROFS') return said;
  }
  return message;
}
