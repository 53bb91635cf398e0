/** Real databases for tests: SQLite files and, where LORAMUX_TEST_POSTGRES names a server, Postgres databases. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'libsql/promise';
import pg from 'pg';
import { openPostgres } from '../../server/registry/open-postgres.js';
import { openSqlite } from '../../server/registry/open-sqlite.js';
import type { RegistryNews } from '../../server/registry/reachability.js';
import type { RegistryStore } from '../../server/registry/types.js';

/** URL of a server where tests may create databases; `.ci/run` starts one. */
export const POSTGRES = process.env.LORAMUX_TEST_POSTGRES;

/** Why tests against Postgres are skipped; false = they are not. */
export const NO_POSTGRES = POSTGRES === undefined && 'LORAMUX_TEST_POSTGRES names no Postgres server (.ci/run does)';

/** One database that may be opened several times. */
export interface TestDatabase {
  /** For `--registry` or `--state-dir`. */
  readonly place: string;
  /** @param news absent = nothing is to be told, but what the test itself brings about */
  open(news?: RegistryNews): Promise<RegistryStore>;
  /** Runs statements as another program would. */
  run?(statements: string): Promise<void>;
  /** Keeps all writers waiting, as a process does that is writing, until what it returns is called. */
  block?(): Promise<() => Promise<unknown>>;
  drop(): Promise<void>;
}

const fail = (error: unknown): void => {
  throw error;
};

/** For who expects to be told nothing. */
const NO_NEWS: RegistryNews = { lost: fail, back: () => {}, remark: fail };

/** For who does not listen. */
export const UNHEARD: RegistryNews = { lost: () => {}, back: () => {}, remark: () => {} };

/** What was told, in order: `lost`, `back`, or a remark. */
export function listening(): { readonly heard: string[]; readonly news: RegistryNews } {
  const heard: string[] = [];
  const news = {
    lost: () => heard.push('lost'),
    back: () => heard.push('back'),
    remark: (what: string) => heard.push(what),
  };
  return { heard, news };
}

export async function sqliteDatabase(): Promise<TestDatabase> {
  const dir = mkdtempSync(join(tmpdir(), 'loramux-registry-'));
  return {
    place: dir,
    open: (news = NO_NEWS) => openSqlite(dir, news),
    run: async (statements) => {
      const database = new Database(join(dir, 'registry.db'), {});
      await database.exec(statements);
      database.close();
    },
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
  const run = async (url: string, statements: string): Promise<void> => {
    const client = new pg.Client(url);
    await client.connect();
    await client.query(statements).finally(() => client.end());
  };
  const admin = (statement: string) => run(POSTGRES!, statement);
  await admin(`create database ${name}`);
  const place = String(Object.assign(new URL(POSTGRES!), { pathname: `/${name}` }));
  return {
    place,
    // A listener that is cut off tells so; that is what some tests do.
    open: (news = UNHEARD) => openPostgres(place, news),
    run: (statements) => run(place, statements),
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
