/** Pages of the log of changes, newest first. */
import { AppError } from '../errors.js';
import type { RegistryStore, StoredEvent } from '../registry/types.js';
import { ADAPTER_KIND } from './adapter-records.js';
import type { AdapterEventInfo } from './types.js';

const DEFAULT_SIZE = 100;
const MAX_SIZE = 1000;

function fault(field: string, description: string): AppError {
  return new AppError('INVALID_REQUEST', `${field} ${description}`, { violations: [{ field, description }] });
}

function positionOf(token: string): { revision: number; ordinal: number } | undefined {
  if (token === '') return undefined;
  const match = /^(\d{1,15})\.(\d{1,6})$/.exec(token);
  if (match === null) throw fault('page_token', 'is not one that this server gave out');
  return { revision: Number(match[1]), ordinal: Number(match[2]) };
}

function eventInfo(event: StoredEvent): AdapterEventInfo {
  const { revision, at, actor, requestId, scope, name, action, digestBefore = '', digestAfter = '', detail } = event;
  return {
    revision,
    at,
    actor,
    requestId,
    model: scope,
    name,
    action,
    digestBefore,
    digestAfter,
    detail: detail ?? {},
  };
}

/** One page. Throws INVALID_REQUEST for a negative size or a foreign token. */
export async function eventPage(
  store: RegistryStore,
  request: {
    readonly model?: string | undefined;
    readonly name?: string | undefined;
    readonly pageSize?: number;
    readonly pageToken?: string;
  },
): Promise<{ readonly events: readonly AdapterEventInfo[]; readonly nextPageToken: string }> {
  const { pageSize = 0, pageToken = '' } = request;
  if (!Number.isInteger(pageSize) || pageSize < 0) throw fault('page_size', 'must be an integer >= 0');
  const size = Math.min(pageSize === 0 ? DEFAULT_SIZE : pageSize, MAX_SIZE);
  const query = {
    kind: ADAPTER_KIND,
    scope: request.model,
    name: request.name?.normalize('NFC'),
    before: positionOf(pageToken),
  };
  const found = await store.events({ ...query, limit: size + 1 });
  const shown = found.slice(0, size);
  const last = shown.at(-1);
  return {
    events: shown.map(eventInfo),
    nextPageToken: last !== undefined && found.length > size ? `${last.revision}.${last.ordinal}` : '',
  };
}
