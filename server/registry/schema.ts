/** Tables of the registry, and the steps that bring an older database to them. The same SQL on SQLite and Postgres. */
import { type Kysely, sql } from 'kysely';
import { repairHead } from './repair.js';

/** The one row whose update every writer waits for: it hands out revisions in the order of commits. */
export interface HeadTable {
  id: number;
  revision: number;
}

/** The records. */
export interface RecordTable {
  kind: string;
  scope: string;
  name: string;
  /** JSON. */
  body: string;
  revision: number;
}

/** The log; also what followers read. */
export interface EventTable {
  revision: number;
  ordinal: number;
  kind: string;
  scope: string;
  name: string;
  action: string;
  at: number;
  actor: string;
  request_id: string;
  digest_before: string | null;
  digest_after: string | null;
  /** JSON, or null. */
  detail: string | null;
}

/** All tables. */
export interface RegistryTables {
  loramux_schema: { version: number };
  loramux_head: HeadTable;
  loramux_record: RecordTable;
  loramux_event: EventTable;
}

/** Each brings the database from the version of its index to the next; never edit one that was released. */
const STEPS: readonly ((db: Kysely<RegistryTables>) => Promise<void>)[] = [
  async (db) => {
    await db.schema
      .createTable('loramux_head')
      .addColumn('id', 'integer', (column) => column.primaryKey())
      .addColumn('revision', 'bigint', (column) => column.notNull())
      .execute();
    await db.insertInto('loramux_head').values({ id: 1, revision: 0 }).execute();
    await db.schema
      .createTable('loramux_record')
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('scope', 'text', (column) => column.notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('body', 'text', (column) => column.notNull())
      .addColumn('revision', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('loramux_record_key', ['kind', 'scope', 'name'])
      .execute();
    await db.schema
      .createTable('loramux_event')
      .addColumn('revision', 'bigint', (column) => column.notNull())
      .addColumn('ordinal', 'integer', (column) => column.notNull())
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('scope', 'text', (column) => column.notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('action', 'text', (column) => column.notNull())
      .addColumn('at', 'bigint', (column) => column.notNull())
      .addColumn('actor', 'text', (column) => column.notNull())
      .addColumn('request_id', 'text', (column) => column.notNull())
      .addColumn('digest_before', 'text')
      .addColumn('digest_after', 'text')
      .addColumn('detail', 'text')
      .addPrimaryKeyConstraint('loramux_event_key', ['revision', 'ordinal'])
      .execute();
    await db.schema
      .createIndex('loramux_event_name')
      .on('loramux_event')
      .columns(['kind', 'scope', 'name', 'revision'])
      .execute();
  },
];

/** Versions of the schema. */
const SCHEMA_VERSION = STEPS.length;

/**
 * Creates the tables or brings them up to date, in the transaction that `db` is.
 * @returns what was wrong in them and was put right, if anything was
 * @throws Error where a later version of the program has written the database
 */
export async function migrate(db: Kysely<RegistryTables>): Promise<string | undefined> {
  await db.schema
    .createTable('loramux_schema')
    .ifNotExists()
    .addColumn('version', 'integer', (column) => column.notNull())
    .execute();
  const found = await db.selectFrom('loramux_schema').select('version').executeTakeFirst();
  const version = found?.version ?? 0;
  if (version > SCHEMA_VERSION) {
    throw new Error(
      `it has version ${version} of the tables, and this program knows ${SCHEMA_VERSION}; use a newer one`,
    );
  }
  for (const step of STEPS.slice(version)) await step(db);
  if (found === undefined) await db.insertInto('loramux_schema').values({ version: SCHEMA_VERSION }).execute();
  else if (version < SCHEMA_VERSION) await db.updateTable('loramux_schema').set({ version: SCHEMA_VERSION }).execute();
  return repairHead(db);
}

/** Serialises what would create the tables twice at once; where the database needs it. */
export async function lockSchema(db: Kysely<RegistryTables>): Promise<void> {
  await sql`select pg_advisory_xact_lock(7236410)`.execute(db);
}
