/** Pages of a listing sorted by name. The token is the last name shown, so inserts and deletes do not shift pages. */
import { AppError } from '../errors.js';

const DEFAULT_SIZE = 100;
const MAX_SIZE = 1000;

/** What is listed. */
interface Listed {
  readonly name: string;
  readonly model: string;
}

function fault(field: string, description: string): AppError {
  return new AppError('INVALID_REQUEST', `${field} ${description}`, { violations: [{ field, description }] });
}

function decode(token: string): Listed {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
    if (Array.isArray(parsed) && parsed.length === 2 && parsed.every((part) => typeof part === 'string')) {
      return { name: parsed[0], model: parsed[1] };
    }
  } catch {
    // Falls through: whatever it is, it is not a token of ours.
  }
  throw fault('page_token', 'is not one that this server gave out');
}

function compare(x: Listed, y: Listed): number {
  if (x.name !== y.name) return x.name < y.name ? -1 : 1;
  if (x.model !== y.model) return x.model < y.model ? -1 : 1;
  return 0;
}

/** One page of `items`, by name and model. Throws INVALID_REQUEST for a negative size or a foreign token. */
export function pageOf<T extends Listed>(
  items: Iterable<T>,
  pageSize = 0,
  pageToken = '',
): { readonly items: readonly T[]; readonly nextPageToken: string } {
  if (!Number.isInteger(pageSize) || pageSize < 0) throw fault('page_size', 'must be an integer >= 0');
  const size = Math.min(pageSize === 0 ? DEFAULT_SIZE : pageSize, MAX_SIZE);
  const after = pageToken === '' ? undefined : decode(pageToken);
  const rest = [...items].filter((item) => after === undefined || compare(item, after) > 0).sort(compare);
  const shown = rest.slice(0, size);
  const last = shown.at(-1);
  const more = last !== undefined && rest.length > size;
  return {
    items: shown,
    nextPageToken: more ? Buffer.from(JSON.stringify([last.name, last.model])).toString('base64url') : '',
  };
}
