/** Real databases for tests: SQLite files and, where LORAMUX_TEST_POSTGRES names a server, Postgres databases. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'libsql/promise';
import pg from 'pg';
import { openPostgres } from '../../server/registry/open-postgres.js';
import { openSqlite } from '../../server/registry/open-sqlite.js';
import type { RegistryStore } from '../../server/registry/types.js';

/** URL of a server where tests may create databases; `.ci/run` starts one. */
export const POSTGRES = process.env.LORAMUX_TEST_POSTGRES;

/** Why tests against Postgres are skipped; false = they are not. */
export const NO_POSTGRES = POSTGRES === undefined && 'LORAMUX_TEST_POSTGRES names no Postgres server (.ci/run does)';

/** One database that may be opened several times. */
export interface TestDatabase {
  /** For `--registry` or `--state-dir`. */
  readonly place: string;
  open(): Promise<RegistryStore>;
  /** Keeps all writers waiting, as a process does that is writing, until what it returns is called. */
  block?(): Promise<() => Promise<unknown>>;
  drop(): Promise<void>;
}

const onError = (error: unknown): void => {
  throw error;
};

export async function sqliteDatabase(): Promise<TestDatabase> {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-registry-'));
  return {
    place: dir,
    open: () => openSqlite(dir, onError),
    block: async () => {
      const writer = new Database(join(dir, 'registry.db'), {});
      await writer.exec('begin immediate');
      return async () => writer.close();
    },
    drop: async () => rmSync(dir, { recursive: true }),
  };
}

export async function postgresDatabase(): Promise<TestDatabase> {
  const name = `loramux_${randomUUID().replaceAll('-', '')}`;
  const admin = async (sql: string): Promise<void> => {
    const client = new pg.Client(POSTGRES);
    await client.connect();
    await client.query(sql).finally(() => client.end());
  };
  await admin(`create database ${name}`);
  const place = String(Object.assign(new URL(POSTGRES!), { pathname: `/${name}` }));
  return {
    place,
    // A listener that is cut off tells so; that is what some tests do.
    open: () => openPostgres(place, () => {}),
    block: async () => {
      const writer = new pg.Client(place);
      await writer.connect();
      await writer.query('begin');
      await writer.query('update loramux_head set revision = revision');
      return () => writer.end();
    },
    drop: () => admin(`drop database ${name} with (force)`),
  };
}
