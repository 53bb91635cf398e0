/** The registry over SQL. Every writer updates the head row first, so that revisions are in the order of commits. */
import type { Kysely, Transaction } from 'kysely';
import { AppError } from '../errors.js';
import { Follower } from './follower.js';
import type { Reachability } from './reachability.js';
import { eventOf, eventRow, recordOf } from './rows.js';
import type { RegistryTables } from './schema.js';
import {
  type ChangeAuthor,
  type EventQuery,
  type FollowedChange,
  type RecordChange,
  type RecordKey,
  RegistryConflict,
  type RegistryStore,
  type StoredEvent,
  type StoredRecord,
} from './types.js';

/** Events after which one look for changes reads no further revision. */
const LOOK_LIMIT = 1000;

/** What differs between the databases. */
export interface SqlStoreOptions {
  readonly place: string;
  /** How often followers look by themselves, in milliseconds. */
  readonly pollMs: number;
  /** Runs in the transaction of a write, last: for telling other processes. */
  readonly announce?: ((db: Transaction<RegistryTables>, revision: number) => Promise<void>) | undefined;
  /** Closes what the store does not know of. */
  readonly onClose?: (() => Promise<void>) | undefined;
  /** What is told of an error of the database in its place; absent = the error. */
  readonly explain?: ((error: unknown) => unknown) | undefined;
  /** Told when a look for changes fails, as the next one tries again. */
  readonly reachability: Reachability;
  /** Told when changes fail where looks do not, as on a full disk; absent = looks tell it all. */
  readonly writing?: Reachability | undefined;
}

/** The one implementation of {@link RegistryStore}. */
export class SqlStore implements RegistryStore {
  readonly place: string;
  readonly durable = true;
  private readonly db: Kysely<RegistryTables>;
  private readonly reads: Kysely<RegistryTables>;
  private readonly options: SqlStoreOptions;
  private readonly followers = new Set<Follower>();

  /** @param reads where it is read: on connections of its own, as writers keep theirs while they wait for each other */
  constructor(db: Kysely<RegistryTables>, reads: Kysely<RegistryTables>, options: SqlStoreOptions) {
    this.db = db;
    this.reads = reads;
    this.options = options;
    this.place = options.place;
  }

  async get(key: RecordKey): Promise<StoredRecord | undefined> {
    return this.guard('read', async () => {
      const row = await ofKey(this.reads.selectFrom('loramux_record').selectAll(), key).executeTakeFirst();
      return row && recordOf(row);
    });
  }

  async list(kind: string, scope?: string) {
    return this.guard('read', async () => {
      // The revision first: what changes in between is then told again, never missed.
      const revision = await this.head();
      let query = this.reads.selectFrom('loramux_record').selectAll().where('kind', '=', kind);
      if (scope !== undefined) query = query.where('scope', '=', scope);
      return { records: (await query.orderBy('scope').orderBy('name').execute()).map(recordOf), revision };
    });
  }

  async write(changes: readonly RecordChange[], author: ChangeAuthor): Promise<number> {
    const revision = await this.guard('written', () =>
      this.db.transaction().execute(async (db) => {
        const head = await db
          .updateTable('loramux_head')
          .set((row) => ({ revision: row('revision', '+', 1) }))
          .where('id', '=', 1)
          .returning('revision')
          .executeTakeFirstOrThrow();
        for (const change of changes) await apply(db, change, head.revision);
        const at = Date.now();
        const events = changes.map((change, ordinal) => eventRow(change, author, head.revision, ordinal, at));
        if (events.length > 0) await db.insertInto('loramux_event').values(events).execute();
        await this.options.announce?.(db, head.revision);
        return head.revision;
      }),
    ).catch((error: unknown) => {
      if (error instanceof AppError) this.options.writing?.failed(this, error);
      throw error;
    });
    this.options.writing?.works(this);
    this.wake();
    return revision;
  }

  async events({ kind, scope, name, before, limit }: EventQuery): Promise<readonly StoredEvent[]> {
    return this.guard('read', async () => {
      let query = this.reads.selectFrom('loramux_event').selectAll();
      if (kind !== undefined) query = query.where('kind', '=', kind);
      if (scope !== undefined) query = query.where('scope', '=', scope);
      if (name !== undefined) query = query.where('name', '=', name);
      if (before !== undefined) {
        query = query.where(({ eb, and, or }) =>
          or([
            eb('revision', '<', before.revision),
            and([eb('revision', '=', before.revision), eb('ordinal', '<', before.ordinal)]),
          ]),
        );
      }
      const rows = await query.orderBy('revision', 'desc').orderBy('ordinal', 'desc').limit(limit).execute();
      return rows.map(eventOf);
    });
  }

  follow(revision: number, onChange: (changes: readonly FollowedChange[]) => Promise<void> | void) {
    const { pollMs, reachability } = this.options;
    const follower = new Follower(revision, (after) => this.changesAfter(after), onChange, { pollMs, reachability });
    this.followers.add(follower);
    return async () => {
      this.followers.delete(follower);
      await follower.stop();
    };
  }

  /** Makes followers look now. */
  wake(): void {
    for (const follower of this.followers) follower.wake();
  }

  async close(): Promise<void> {
    await Promise.all([...this.followers].map((follower) => follower.stop()));
    this.followers.clear();
    await this.options.onClose?.();
    await Promise.all([this.db.destroy(), this.reads.destroy()]);
  }

  private async head(): Promise<number> {
    const { revision } = await this.reads.selectFrom('loramux_head').select('revision').executeTakeFirstOrThrow();
    return revision;
  }

  /** What changed after a revision, each record once, in the order of its last change. */
  private async changesAfter(after: number): Promise<{ revision: number; changes: FollowedChange[] }> {
    if ((await this.head()) === after) return { revision: after, changes: [] };
    const names = this.reads
      .selectFrom('loramux_event')
      .select(['kind', 'scope', 'name', 'revision'])
      .where('revision', '>', after)
      .orderBy('revision')
      .orderBy('ordinal');
    const first = await names.limit(LOOK_LIMIT).execute();
    const last = first.at(-1)?.revision;
    if (last === undefined) return { revision: after, changes: [] };
    // All of a revision or nothing: one that has more events than a look reads would be looked at for ever.
    const rows = first.length < LOOK_LIMIT ? first : await names.where('revision', '<=', last).execute();
    const latest = new Map<string, { key: RecordKey; revision: number }>();
    for (const { kind, scope, name, revision } of rows) {
      const id = idOf({ kind, scope, name });
      latest.delete(id);
      latest.set(id, { key: { kind, scope, name }, revision });
    }
    const changes: FollowedChange[] = [];
    const records = await this.recordsChanged(after, last);
    for (const [id, { key, revision }] of latest) changes.push({ key, record: records.get(id), revision });
    return { revision: last, changes };
  }

  /** What there is by now of the records that changed between two revisions, at once: a query for each would fall behind. */
  private async recordsChanged(after: number, last: number): Promise<Map<string, StoredRecord>> {
    const rows = await this.reads
      .selectFrom((db) =>
        db
          .selectFrom('loramux_event')
          .select(['kind', 'scope', 'name'])
          .distinct()
          .where('revision', '>', after)
          .where('revision', '<=', last)
          .as('changed'),
      )
      .innerJoin('loramux_record as record', (join) =>
        join
          .onRef('record.kind', '=', 'changed.kind')
          .onRef('record.scope', '=', 'changed.scope')
          .onRef('record.name', '=', 'changed.name'),
      )
      .selectAll('record')
      .execute();
    return new Map(rows.map((row) => [idOf(row), recordOf(row)]));
  }

  private async guard<T>(verb: 'read' | 'written', run: () => Promise<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      if (error instanceof RegistryConflict || error instanceof AppError) throw error;
      throw unusable(`the registry (${this.place}) cannot be ${verb}`, this.options.explain?.(error) ?? error);
    }
  }
}

/** REGISTRY_UNAVAILABLE with what the database said. */
export function unusable(what: string, cause: unknown): AppError {
  const said = (cause instanceof Error && cause.message) || (cause as { code?: string } | undefined)?.code;
  return new AppError('REGISTRY_UNAVAILABLE', `${what}: ${said ?? String(cause)}`, { cause, retryAfterMs: 1000 });
}

const idOf = ({ kind, scope, name }: RecordKey): string => JSON.stringify([kind, scope, name]);

function ofKey<Q extends { where(column: 'kind' | 'scope' | 'name', operator: '=', value: string): Q }>(
  query: Q,
  { kind, scope, name }: RecordKey,
): Q {
  return query.where('kind', '=', kind).where('scope', '=', scope).where('name', '=', name);
}

async function apply(db: Transaction<RegistryTables>, change: RecordChange, revision: number): Promise<void> {
  const { key, body, expected } = change;
  const found = await ofKey(db.selectFrom('loramux_record').select('revision'), key).executeTakeFirst();
  if (expected !== undefined && (found?.revision ?? 0) !== expected) throw new RegistryConflict(key);
  if (body === null) {
    await ofKey(db.deleteFrom('loramux_record'), key).execute();
    return;
  }
  const text = JSON.stringify(body);
  await db
    .insertInto('loramux_record')
    .values({ ...key, body: text, revision })
    .onConflict((conflict) => conflict.columns(['kind', 'scope', 'name']).doUpdateSet({ body: text, revision }))
    .execute();
}
