/** Pages of lists: `limit` and `next_page_token`, as DJL Serving has them. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { pageOf as pageByName } from '../service/name-page.js';
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
    throw asInQuery(error);
  }
}

/** The page of a list that a request asks for, sorted by names, which tell where the next one begins. */
export function pageOf<T>(
  request: FastifyRequest,
  all: readonly T[],
  keyOf: (item: T) => readonly [name: string, version: string],
): { items: readonly T[]; nextPageToken: { nextPageToken?: string } } {
  const query = singleValues(request);
  const limit = pageLimit(query.limit);
  try {
    const { items, nextPageToken } = pageByName(all, keyOf, limit, query.next_page_token);
    return { items, nextPageToken: nextPageToken === '' ? {} : { nextPageToken } };
  } catch (error) {
    throw asInQuery(error);
  }
}

function asInQuery(error: unknown): unknown {
  const refused = error instanceof AppError && error.violations.find(({ field }) => field === 'page_token');
  return refused ? invalidField('next_page_token', refused.description) : error;
}
