/** Pages of lists: `limit` and `next_page_token`, as DJL Serving has them. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { invalidField } from './fields.js';
import { integerText, singleValues } from './query.js';

/** Largest page, and the default. */
const MAX_PAGE = 100;

/** `limit`: 1 to 100; anything outside of it counts as 100, as in DJL Serving. */
export function pageLimit(text: string | undefined): number {
  const limit = integerText(text, 'limit') ?? MAX_PAGE;
  return limit >= 1 && limit <= MAX_PAGE ? limit : MAX_PAGE;
}

/** A page of a service; a token that it refuses is named as the query has it. */
export async function pageFrom<T>(page: Promise<T>): Promise<T> {
  try {
    return await page;
  } catch (error) {
    const refused = error instanceof AppError && error.violations.find(({ field }) => field === 'page_token');
    throw refused ? invalidField('next_page_token', refused.description) : error;
  }
}

/** The page of a list that is sorted by name; the token is where the next page begins. */
export function pageOf<T>(
  request: FastifyRequest,
  all: readonly T[],
): { items: readonly T[]; nextPageToken: { nextPageToken?: string } } {
  const query = singleValues(request);
  const token = query.next_page_token;
  if (token && !/^\d{1,9}$/.test(token)) throw invalidField('next_page_token', 'is no token of this list');
  const start = Number(token ?? 0);
  const end = start + pageLimit(query.limit);
  return { items: all.slice(start, end), nextPageToken: end < all.length ? { nextPageToken: String(end) } : {} };
}
