/**
 * How requests and answers speak of answers to fetch later: by headers, or by the custom attributes, which are all that some
 * platforms pass on.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { CUSTOM_ATTRIBUTES } from '../service/adapter-names.js';
import { customAttribute, header, only } from './headers.js';
import { booleanText } from './query.js';

/** `x-synchronous: false` asks for a token instead of an answer. */
const SYNCHRONOUS = 'x-synchronous';
/** A token, in a request that fetches. */
const STARTING_TOKEN = 'x-starting-token';
/** Most pieces that a fetch wants. */
const MAX_ITEMS = 'x-max-items';
/** The token of what follows, in an answer. */
const NEXT_TOKEN = 'x-next-token';

/** True where the request asks for a token. Throws INVALID_REQUEST for what is neither true nor false. */
export function wantsLater(request: FastifyRequest): boolean {
  return booleanText(told(request, SYNCHRONOUS), SYNCHRONOUS) === false;
}

/** The token of a request that fetches; undefined where it asks for an answer of its own. Throws INVALID_REQUEST. */
export function startingToken(request: FastifyRequest): string | undefined {
  return told(request, STARTING_TOKEN);
}

/** Most pieces that a fetch wants. Throws INVALID_REQUEST. */
export function maxItems(request: FastifyRequest): number {
  const items = told(request, MAX_ITEMS);
  if (items === undefined) return Number.MAX_SAFE_INTEGER;
  if (/^[1-9]\d{0,8}$/.test(items)) return Number(items);
  throw new AppError('INVALID_REQUEST', `${MAX_ITEMS} must be a whole number above 0, not ${JSON.stringify(items)}`);
}

/** Answers with the token of an answer that is made. */
export function answerToken(reply: FastifyReply, token: string): void {
  tellNext(reply, token);
  reply.send();
}

/** Tells the token of what follows. */
export function tellNext(reply: FastifyReply, token: string): void {
  reply.header(NEXT_TOKEN, token).header(CUSTOM_ATTRIBUTES, `${NEXT_TOKEN}=${token}`);
}

/** Header and custom attribute may both say it, but not differ. */
function told(request: FastifyRequest, name: string): string | undefined {
  const places = [header(request, name)?.trim(), customAttribute(header(request, CUSTOM_ATTRIBUTES), name)];
  return only(
    places.filter((text) => text !== undefined),
    name,
  );
}
