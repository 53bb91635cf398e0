/** The registry in a Postgres database that several replicas share. */
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import { Reachability, type RegistryNews } from './reachability.js';
import { lockSchema, migrate, type RegistryTables } from './schema.js';
import { SqlStore, unusable } from './sql-store.js';
import type { RegistryStore } from './types.js';

/** Channel that writers notify. */
const CHANNEL = 'loramux_registry';
/** How often changes are looked for when no notification comes, for example because its connection was lost. */
const POLL_MS = 500;
const CONNECT_MS = 5000;
const STATEMENT_MS = 10_000;
/**
 * A server that is there has ended a statement before that. One that went away without a word, or a network that lost it,
 * would be waited for until TCP gives up, for a quarter of an hour.
 */
const SILENT_MS = STATEMENT_MS + 5000;
/** How long a server may take to hear that a connection ends. */
const END_MS = 1000;
/** Between two attempts to listen again. */
const RELISTEN_MS = 500;

/** int8 as a number: revisions and times stay far below 2^53. */
const types = {
  getTypeParser: (oid: number, format?: 'text' | 'binary') =>
    oid === pg.types.builtins.INT8 ? Number : pg.types.getTypeParser(oid, format),
} as pg.CustomTypesConfig;

/**
 * Opens the registry at `postgres://...`, creating its tables.
 * @param silentMs how long a connection may bring nothing while it is used
 * @throws AppError REGISTRY_UNAVAILABLE
 */
export async function openPostgres(url: string, news: RegistryNews, silentMs = SILENT_MS): Promise<RegistryStore> {
  const place = placeOf(url);
  const reachability = new Reachability(news);
  const settings = {
    connectionString: url,
    types,
    connectionTimeoutMillis: CONNECT_MS,
    statement_timeout: STATEMENT_MS,
    keepAlive: true,
    application_name: 'loramux',
  };
  const connect = (max: number) => {
    // Those that are not used are closed before that.
    const pool = new pg.Pool({ ...settings, max, stream: () => impatient(silentMs), idleTimeoutMillis: silentMs / 2 });
    // A connection that breaks while idle; the next query opens another.
    pool.on('error', (error) => reachability.failed('idle', error));
    // In use, but between two queries, it has no other listener, and the error would be nobody's. The next query fails.
    pool.on('connect', (client) => client.on('error', () => {}));
    return new Kysely<RegistryTables>({ dialect: new PostgresDialect({ pool }) });
  };
  const db = connect(4);
  try {
    const repaired = await db.transaction().execute(async (transaction) => {
      await lockSchema(transaction);
      return migrate(transaction);
    });
    if (repaired !== undefined) news.remark(`the registry ${place}: ${repaired}`);
  } catch (error) {
    await db.destroy().catch(() => {});
    throw unusable(`the registry ${place} cannot be opened`, error);
  }
  const listener = new Listener(settings, () => store.wake(), reachability);
  const store: SqlStore = new SqlStore(db, connect(2), {
    place,
    pollMs: POLL_MS,
    announce: async (transaction, revision) => {
      await sql`select pg_notify(${CHANNEL}, ${String(revision)})`.execute(transaction);
    },
    onClose: () => listener.close(),
    reachability,
  });
  void listener.connect();
  return store;
}

/** A socket that breaks when it has brought nothing for so long. */
function impatient(silentMs: number): Socket {
  const socket = new Socket();
  const seconds = silentMs / 1000;
  socket.setTimeout(silentMs, () => socket.destroy(new Error(`the database said nothing for ${seconds} s`)));
  return socket;
}

/** A URL without its password. */
function placeOf(url: string): string {
  try {
    const { protocol, hostname, port, pathname } = new URL(url);
    return `${protocol}//${hostname}${port === '' ? '' : `:${port}`}${pathname}`;
  } catch {
    return 'postgres';
  }
}

/** The connection that notifications come on; it is made anew whenever it is lost. */
class Listener {
  private readonly settings: pg.ClientConfig;
  private readonly onNotice: () => void;
  private readonly reachability: Reachability;
  private client: pg.Client | undefined;
  private retry: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(settings: pg.ClientConfig, onNotice: () => void, reachability: Reachability) {
    this.settings = settings;
    this.onNotice = onNotice;
    this.reachability = reachability;
  }

  async connect(): Promise<void> {
    if (this.closed) return;
    const client = new pg.Client(this.settings);
    this.client = client;
    let lost = false;
    const onLost = (error?: unknown) => {
      if (lost || this.closed) return;
      lost = true;
      if (error !== undefined) this.reachability.failed(this, error);
      void client.end().catch(() => {});
      this.retry = setTimeout(() => void this.connect(), RELISTEN_MS);
      this.retry.unref();
    };
    client.on('error', onLost);
    client.on('end', () => onLost());
    client.on('notification', this.onNotice);
    try {
      await client.connect();
      await client.query(`listen ${CHANNEL}`);
      this.reachability.works(this);
      this.onNotice(); // What was written while nobody listened.
    } catch (error) {
      onLost(error);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.retry);
    const ended = this.client?.end().catch(() => {});
    await Promise.race([ended, delay(END_MS, undefined, { ref: false })]);
  }
}
