/** What can be put right in the tables of a registry. */
import type { Kysely } from 'kysely';
import type { RegistryTables } from './schema.js';

/**
 * A head behind what is stored, or none at all, would hand out revisions that are taken, and every change would fail for
 * that. Brings it there, in the transaction that `db` is.
 * @returns what was put right; undefined = nothing was wrong
 */
export async function repairHead(db: Kysely<RegistryTables>): Promise<string | undefined> {
  // The head last, without its lock: in the meantime others may write, and it is never behind what they wrote.
  const before = await lastRevision(db);
  if ((await readHead(db)) >= before) return undefined;
  await db
    .insertInto('loramux_head')
    .values({ id: 1, revision: 0 })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute();
  const locked = await db
    .updateTable('loramux_head')
    .set((row) => ({ revision: row.ref('revision') }))
    .where('id', '=', 1)
    .returning('revision')
    .executeTakeFirstOrThrow();
  const last = await lastRevision(db);
  if (locked.revision >= last) return undefined;
  await db.updateTable('loramux_head').set({ revision: last }).where('id', '=', 1).execute();
  return (
    `its count of changes was ${locked.revision}, but it has change ${last}: the count was put right; ` +
    'if an older copy was put in its place, changes may be missing'
  );
}

/** -1 = there is none. */
async function readHead(db: Kysely<RegistryTables>): Promise<number> {
  const head = await db.selectFrom('loramux_head').select('revision').where('id', '=', 1).executeTakeFirst();
  return head?.revision ?? -1;
}

/** The latest revision of any record and any event. */
async function lastRevision(db: Kysely<RegistryTables>): Promise<number> {
  const event = await db
    .selectFrom('loramux_event')
    .select((row) => row.fn.max('revision').as('last'))
    .executeTakeFirst();
  const record = await db
    .selectFrom('loramux_record')
    .select((row) => row.fn.max('revision').as('last'))
    .executeTakeFirst();
  return Math.max(Number(event?.last ?? 0), Number(record?.last ?? 0));
}
