/** Records and events as rows of the tables, and back: what has no column is JSON text. */
import type { EventTable, RecordTable } from './schema.js';
import type { ChangeAuthor, RecordChange, StoredEvent, StoredRecord } from './types.js';

/** What a text says; null = it is no JSON any more: whoever needs it tells so, and what else is stored is read. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The record of a row. */
export function recordOf({ kind, scope, name, body, revision }: RecordTable): StoredRecord {
  return { kind, scope, name, body: jsonOf(body), revision };
}

/** The row that tells of a change; `ordinal`: which change of its revision. */
export function eventRow(
  { key, note }: RecordChange,
  author: ChangeAuthor,
  revision: number,
  ordinal: number,
  at: number,
): EventTable {
  return {
    revision,
    ordinal,
    kind: key.kind,
    scope: key.scope,
    name: key.name,
    action: note.action,
    at,
    actor: author.actor,
    request_id: author.requestId,
    digest_before: note.digestBefore ?? null,
    digest_after: note.digestAfter ?? null,
    detail: note.detail === undefined ? null : JSON.stringify(note.detail),
  };
}

/** The event of a row. */
export function eventOf(row: EventTable): StoredEvent {
  const { revision, ordinal, kind, scope, name, action, at, actor } = row;
  return {
    ...{ revision, ordinal, kind, scope, name, action, at, actor },
    requestId: row.request_id,
    ...(row.digest_before === null ? {} : { digestBefore: row.digest_before }),
    ...(row.digest_after === null ? {} : { digestAfter: row.digest_after }),
    ...(row.detail === null ? {} : { detail: (jsonOf(row.detail) ?? {}) as Record<string, unknown> }),
  };
}
