/** What of an inference request nothing reads: it is told in a header, or refused where it would have named an adapter. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import {
  ALIAS_HEADER,
  assignedNames,
  CUSTOM_ATTRIBUTES,
  IDENTIFIER_HEADER,
  looksLikeAdapter,
  otherAttributes,
} from '../service/adapter-names.js';
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

/**
 * Refuses names that look like an adapter's place. Headers and custom attributes are the caller's platform's as well, so
 * that others in them are nothing to tell of.
 * @param body names of the body that were not read
 * @param query names of the query that were not read
 * @param chosen whether the request says elsewhere which adapters answer
 * @throws INVALID_REQUEST
 */
export function refuseAdapterNames(
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

/**
 * Refuses weights that stand beside the choice of adapters: passed over, another mix than the one asked for would answer.
 * @param names names of body and query that were not read
 * @throws INVALID_REQUEST
 */
export function refuseWeights(names: readonly string[]): void {
  const found = names.find((name) => isWeight(name));
  if (found === undefined) return;
  throw invalidField(
    found,
    'is not read here; a weight stands with its adapter: {"adapters": [{"name": "a", "weight": 0.5}]}',
  );
}

/** Whether a name gives the weight of adapters, to other servers or in a slip. */
export function isWeight(name: string): boolean {
  return /^weights?$/i.test(name);
}

/** Tells names that were not used; nothing is told where there are none. */
export function tellIgnored(reply: FastifyReply, names: readonly string[]): void {
  if (names.length === 0) return;
  // Half of a surrogate pair has no percent-encoding; by way of bytes it becomes U+FFFD.
  const encoded = names.map((name) => encodeURIComponent(Buffer.from(name).toString()));
  reply.header(IGNORED_HEADER, encoded.join(', ').slice(0, 1024));
}
