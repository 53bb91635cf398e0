/** The registry in a file of a state folder. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { Kysely } from 'kysely';
import Database from 'libsql/promise';
import { makeFolder } from '../folders.js';
import { libsqlDialect, whenFree } from './libsql-dialect.js';
import { migrate, type RegistryTables } from './schema.js';
import { SqlStore, unusable } from './sql-store.js';
import type { RegistryStore } from './types.js';

/** How often changes by other processes are looked for. */
const POLL_MS = 300;

/**
 * Opens the registry of a state folder, creating both.
 * @param pragmas further settings of the connection, for example `query_only = on`
 * @throws AppError REGISTRY_UNAVAILABLE
 */
export async function openSqlite(
  stateDir: string,
  onError: (error: unknown) => void,
  pragmas: readonly string[] = [],
): Promise<RegistryStore> {
  const file = join(stateDir, 'registry.db');
  let db: Kysely<RegistryTables> | undefined;
  try {
    makeFolder(stateDir);
    const database = new Database(file, {});
    db = new Kysely<RegistryTables>({ dialect: libsqlDialect(database) });
    // A commit is on the disk before it is acknowledged, and a crash at any time leaves whole transactions only.
    await whenFree(() => database.exec('pragma journal_mode = wal'));
    await database.exec('pragma synchronous = full');
    chmodSync(file, 0o600);
    await db.transaction().execute(migrate);
    for (const pragma of pragmas) await database.exec(`pragma ${pragma}`);
    // Beside the write-ahead log readers wait for no writer.
    const reads = new Kysely<RegistryTables>({ dialect: libsqlDialect(new Database(file, {})) });
    return new SqlStore(db, reads, { place: file, pollMs: POLL_MS, onError });
  } catch (error) {
    await db?.destroy().catch(() => {});
    throw unusable(`the registry ${file} cannot be opened`, error);
  }
}
