/** What of an inference request nothing reads: it is told in a header, or refused where it would have named an adapter. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import {
  ALIAS_HEADER,
  assignedNames,
  CUSTOM_ATTRIBUTES,
  customAttributes,
  IDENTIFIER_HEADER,
  isWeight,
  looksLikeAdapter,
  otherAttributes,
} from '../service/adapter-names.js';
import { isObject } from './body.js';
import type { Compat } from './compat.js';
import { invalidField } from './fields.js';
import { header, queryValues } from './headers.js';

/** Names of fields and parameters that were not used, so that a misspelt one is not lost in silence. */
const IGNORED_HEADER = 'x-loramux-ignored';

/** Query parameters that the inference routes read. */
const QUERY = new Set(['adapter', 'model_name', 'model_version']);
/** Query parameters that no route reads. */
export function unreadQuery(request: FastifyRequest): readonly string[] {
  return Object.keys(request.query as object).filter((name) => !QUERY.has(name));
}

/** What of a request was not read, and what it says otherwise. */
export interface Unread {
  readonly body: Record<string, unknown>;
  /** Names of the body that were not read. */
  readonly names: readonly string[];
  /** Names of the model that answers. */
  readonly known: readonly string[];
  /** Whether the request selects adapters. */
  readonly selected: boolean;
  /** Whether it says which adapters answer, by selecting some or by its model. */
  readonly chosen: boolean;
}

/**
 * Refuses what was not read of a request and would have changed what answers.
 * @throws INVALID_REQUEST
 */
export function refuseUnread(
  request: FastifyRequest,
  { body, names, known, selected, chosen }: Unread,
  compat: Compat,
): void {
  const query = unreadQuery(request);
  refuseAdapterNames(request, [...innerNames(body), ...names], query, chosen);
  // The original passes these over.
  if (compat === 'djl') return;
  if (!chosen) refuseUnreadModels(request, body, known);
  if (selected) refuseWeights([...names, ...query]);
}

/**
 * Refuses names that look like an adapter's place. Headers and custom attributes are the caller's platform's as well, so
 * that others in them are nothing to tell of.
 * @param body names of the body that were not read
 * @param query names of the query that were not read
 * @param chosen whether the request says elsewhere which adapters answer
 * @throws INVALID_REQUEST
 */
function refuseAdapterNames(
  request: FastifyRequest,
  body: readonly string[],
  query: readonly string[],
  chosen: boolean,
): void {
  // A name to show beside a choice is none itself.
  const read = new Set([IDENTIFIER_HEADER, ...(chosen ? [ALIAS_HEADER] : [])]);
  const unread: readonly [where: string, names: readonly string[]][] = [
    ['the body', body],
    // Some servers split queries at ";", too.
    ['the query', query.flatMap((name) => [name, ...queryValues(request, name).flatMap(assignedNames)])],
    ['the headers', Object.keys(request.headers).filter((name) => !read.has(name))],
    ['the custom attributes', otherAttributes(header(request, CUSTOM_ATTRIBUTES))],
  ];
  for (const [where, names] of unread) {
    const found = names.find(looksLikeAdapter);
    if (found === undefined) continue;
    throw invalidField(
      found,
      `is no place for an adapter in ${where}; it is named by the top-level field adapters, by ?adapter=, or by the header X-Amzn-SageMaker-Adapter-Identifier`,
    );
  }
}

/** Fields whose own names mean nothing: read as a whole, or the caller's notes. */
const WHOLE = new Set(['adapters', 'logit_bias', 'metadata']);

/**
 * Names one level down in the objects of a body, alone or in lists, and in those of its parameters, with their place:
 * `options.adapter`, `options[0].adapter`. Nothing reads an adapter there.
 */
function innerNames(body: Record<string, unknown>): string[] {
  const { parameters } = body;
  const namesIn = (value: unknown, place: string): string[] =>
    isObject(value) ? Object.keys(value).map((name) => `${place}.${name}`) : [];
  const inside = (fields: Record<string, unknown>): string[] =>
    Object.entries(fields).flatMap(([field, value]) => {
      if (WHOLE.has(field)) return [];
      return Array.isArray(value) ? value.flatMap((one, at) => namesIn(one, `${field}[${at}]`)) : namesIn(value, field);
    });
  return [...inside(body), ...(isObject(parameters) ? inside(parameters).map((name) => `parameters.${name}`) : [])];
}

/** Names that say which model answers, to other servers or in a slip. */
const MODEL = /^model_?(id)?$/i;
/** In a body one more, which is read in other places. */
const MODEL_IN_BODY = /^model_?(id|name)?$/i;

/**
 * Refuses a model that is named where nothing reads it, in a request that names no adapter: the name may be an adapter's, and
 * the base model would answer.
 * @param body the fields of the body
 * @param known names of the model that answers
 * @throws INVALID_REQUEST
 */
function refuseUnreadModels(request: FastifyRequest, body: Record<string, unknown>, known: readonly string[]): void {
  const { parameters } = body;
  const query = unreadQuery(request).flatMap((name) =>
    queryValues(request, name).map((value) => [name, value] as const),
  );
  const places: readonly [
    where: string,
    pattern: RegExp,
    fields: readonly (readonly [name: string, value: unknown])[],
  ][] = [
    ['the body', MODEL_IN_BODY, Object.entries(body).filter(([name]) => name !== 'model')],
    ['the parameters', MODEL_IN_BODY, isObject(parameters) ? Object.entries(parameters) : []],
    ['the query', MODEL, query],
    ['the custom attributes', MODEL, customAttributes(header(request, CUSTOM_ATTRIBUTES))],
  ];
  for (const [where, pattern, fields] of places) {
    const found = fields.find(([name, value]) => pattern.test(name) && !isKnown(value, known));
    if (found === undefined) continue;
    throw invalidField(
      found[0],
      `is ${JSON.stringify(found[1])} and is not read in ${where}; ?model_name= names the model, and the top-level fields adapters or model name the adapter`,
    );
  }
}

const isKnown = (value: unknown, known: readonly string[]): boolean =>
  typeof value !== 'string' || value === '' || known.includes(value);

/**
 * Refuses weights that stand beside the choice of adapters: passed over, another mix than the one asked for would answer.
 * @param names names of body and query that were not read
 * @throws INVALID_REQUEST
 */
function refuseWeights(names: readonly string[]): void {
  const found = names.find((name) => isWeight(name));
  if (found === undefined) return;
  throw invalidField(
    found,
    'is not read here; a weight stands with its adapter: {"adapters": [{"name": "a", "weight": 0.5}]}',
  );
}

/** Tells names that were not used; nothing is told where there are none. */
export function tellIgnored(reply: FastifyReply, names: readonly string[]): void {
  if (names.length === 0) return;
  // Half of a surrogate pair has no percent-encoding; by way of bytes it becomes U+FFFD.
  const encoded = names.map((name) => encodeURIComponent(Buffer.from(name).toString()));
  reply.header(IGNORED_HEADER, encoded.join(', ').slice(0, 1024));
}
