/**
 * SQLite for Kysely, over the asynchronous interface of libsql: begin, commit and rollback, which wait for locks and for
 * the disk, run off this thread, so that a slow disk never holds up answers.
 */

import { setTimeout as delay } from 'node:timers/promises';
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely';
import type Database from 'libsql/promise';

/** How long to wait for another process that writes. */
const BUSY_MS = 10_000;
/** Longest pause between two attempts. */
const MAX_PAUSE_MS = 50;

/**
 * Runs what needs a lock, until it is free. Waiting inside of SQLite would keep one of libsql's few threads, and with it
 * perhaps the writer that is waited for.
 */
export async function whenFree<T>(run: () => Promise<T> | T): Promise<T> {
  const until = performance.now() + BUSY_MS;
  for (let pause = 1; ; pause = Math.min(2 * pause, MAX_PAUSE_MS)) {
    try {
      return await run();
    } catch (error) {
      if (!String((error as { code?: string }).code).startsWith('SQLITE_BUSY') || performance.now() > until)
        throw error;
    }
    await delay(pause);
  }
}

/** One connection; queries of several callers wait for each other. */
class LibsqlConnection implements DatabaseConnection {
  private readonly db: Database;

  constructor(db: Database) {
    this.db = db;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const statement = await this.db.prepare(sql);
    // The same one again: left where it met a lock, it would keep the connection at what it sees then, and out of writing.
    if (statement.reader) return { rows: (await whenFree(() => statement.all(parameters))) as R[] };
    const { changes } = (await statement.run(parameters)) as { changes: number };
    return { rows: [], numAffectedRows: BigInt(changes) };
  }

  // biome-ignore lint/correctness/useYield: no caller streams
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('results are not streamed');
  }
}

class LibsqlDriver implements Driver {
  private readonly db: Database;
  private readonly connection: LibsqlConnection;
  private tail: Promise<void> = Promise.resolve();
  private free: () => void = () => {};

  constructor(db: Database) {
    this.db = db;
    this.connection = new LibsqlConnection(db);
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    const before = this.tail;
    let free = (): void => {};
    this.tail = new Promise((resolve) => {
      free = resolve;
    });
    await before;
    this.free = free;
    return this.connection;
  }

  async releaseConnection(): Promise<void> {
    this.free();
  }

  /** Immediate: the lock is taken here, not in the middle, where waiting for it could not succeed. */
  async beginTransaction(): Promise<void> {
    await whenFree(() => this.db.exec('begin immediate'));
  }

  async commitTransaction(): Promise<void> {
    await this.db.exec('commit');
  }

  async rollbackTransaction(): Promise<void> {
    try {
      await this.db.exec('rollback');
    } catch {
      // A commit that failed may have ended the transaction already; its own error is the one to tell.
    }
  }

  async destroy(): Promise<void> {
    this.db.close();
  }
}

/** Kysely's dialect for an open libsql database, which it closes in the end. */
export function libsqlDialect(db: Database): Dialect {
  return {
    createAdapter: () => new SqliteAdapter(),
    createDriver: () => new LibsqlDriver(db),
    createIntrospector: (kysely) => new SqliteIntrospector(kysely),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}
