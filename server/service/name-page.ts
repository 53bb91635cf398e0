/**
 * Pages of a listing sorted by name. The token is the last name shown, so inserts and deletes do not shift pages. A decimal
 * number is taken, too: where the page begins, as clients of DJL Serving write tokens of their own.
 */
import { AppError } from '../errors.js';

const DEFAULT_SIZE = 100;
const MAX_SIZE = 1000;

/** What a listing is sorted by: a name, and what tells those of one name apart (a model, a version). */
type Key = readonly [name: string, second: string];

function fault(field: string, description: string): AppError {
  return new AppError('INVALID_REQUEST', `${field} ${description}`, { violations: [{ field, description }] });
}

function decode(token: string): Key {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (Array.isArray(parsed) && parsed.length === 2 && parsed.every((part) => typeof part === 'string')) {
      return [parsed[0], parsed[1]];
    }
  } catch {
    // Falls through: whatever it is, it is not a token of ours.
  }
  throw fault('page_token', 'is not one that this server gave out');
}

function compare(x: Key, y: Key): number {
  const at = x[0] === y[0] ? 1 : 0;
  return x[at] < y[at] ? -1 : x[at] > y[at] ? 1 : 0;
}

/**
 * One page of `items`, by their keys, which are distinct. A `pageSize` of 0 is 100, more than 1000 is 1000.
 * @throws AppError INVALID_REQUEST for a negative size or a foreign token
 */
export function pageOf<T>(
  items: Iterable<T>,
  keyOf: (item: T) => Key,
  pageSize = 0,
  pageToken = '',
): { readonly items: readonly T[]; readonly nextPageToken: string } {
  if (!Number.isInteger(pageSize) || pageSize < 0) throw fault('page_size', 'must be an integer >= 0');
  const size = Math.min(pageSize === 0 ? DEFAULT_SIZE : pageSize, MAX_SIZE);
  const start = /^\d{1,9}$/.test(pageToken) ? Number(pageToken) : undefined;
  const after = pageToken === '' || start !== undefined ? undefined : decode(pageToken);
  const rest = [...items]
    .map((item) => ({ item, key: keyOf(item) }))
    .filter(({ key }) => after === undefined || compare(key, after) > 0)
    .sort((a, b) => compare(a.key, b.key))
    .slice(start);
  const shown = rest.slice(0, size);
  const more = rest.length > shown.length && shown.length > 0;
  return {
    items: shown.map(({ item }) => item),
    nextPageToken: more ? Buffer.from(JSON.stringify(shown.at(-1)!.key)).toString('base64url') : '',
  };
}
