/** What of an inference request nothing reads: it is told in a header, or refused where it would have named an adapter. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { invalidField } from './fields.js';

/** Names of fields and parameters that were not used, so that a misspelt one is not lost in silence. */
export const IGNORED_HEADER = 'x-loramux-ignored';

/** Query parameters that the inference routes read. */
const QUERY = new Set(['adapter', 'model_name', 'model_version']);
/** How other servers, and slips, name adapters: passed over, they would be answered by the base model. */
const ADAPTER_NAMES = new Set([
  ...['adapter', 'adapters', 'adapter_id', 'adapter_name', 'adapter_ids', 'adapter_parameters'],
  ...['lora', 'loras', 'lora_id', 'lora_name', 'lora_path', 'lora_request', 'lora_adapter', 'lora_adapters'],
]);

/** Query parameters that no route reads. */
export function unreadQuery(request: FastifyRequest): readonly string[] {
  return Object.keys(request.query as object).filter((name) => !QUERY.has(name));
}

/**
 * Refuses names that look like an adapter's place.
 * @param body names of the body that were not read
 * @param query names of the query that were not read
 * @throws INVALID_REQUEST
 */
export function refuseAdapterNames(body: readonly string[], query: readonly string[]): void {
  const inBody = body.find((name) => ADAPTER_NAMES.has(name.toLowerCase()));
  const inQuery = query.find((name) => ADAPTER_NAMES.has(name.toLowerCase()));
  const found = inBody ?? inQuery;
  if (found === undefined) return;
  const where = inBody === undefined ? 'the query' : 'the body';
  throw invalidField(
    found,
    `is no place for an adapter in ${where}; it is named by the top-level field adapters, by ?adapter=, or by the header X-Amzn-SageMaker-Adapter-Identifier`,
  );
}

/** Tells names that were not used; nothing is told where there are none. */
export function tellIgnored(reply: FastifyReply, names: readonly string[]): void {
  if (names.length > 0) reply.header(IGNORED_HEADER, names.map(encodeURIComponent).join(', ').slice(0, 1024));
}
