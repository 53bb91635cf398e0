/** Query parameters of the management routes: single-valued, with DJL's spelling of booleans. */
import type { FastifyRequest } from 'fastify';
import { invalidField } from './fields.js';
import { only, queryValues } from './headers.js';

/** All query parameters; one that is repeated with different values is refused. */
export function singleValues(request: FastifyRequest): Record<string, string> {
  const names = Object.keys(request.query as object);
  return Object.fromEntries(names.map((name) => [name, only(queryValues(request, name), name)!]));
}

/** `true` or `false`, in any letter case; absent = undefined. */
export function booleanText(text: string | undefined, name: string): boolean | undefined {
  if (text === undefined) return undefined;
  const lower = text.toLowerCase();
  if (lower === 'true' || lower === 'false') return lower === 'true';
  throw invalidField(name, `must be true or false, not ${JSON.stringify(text)}`);
}

/** A whole number; absent = undefined. */
export function integerText(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const number = /^-?\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(number)) return number;
  throw invalidField(name, `must be a whole number, not ${JSON.stringify(text)}`);
}
