/** Headers and query parameters of inference requests, with what repeated ones mean. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';

/** Header with the attributes that platforms pass on: `key=value` parts, split at ";". */
export const CUSTOM_ATTRIBUTES = 'x-amzn-sagemaker-custom-attributes';

/** The `key=value` parts of {@link CUSTOM_ATTRIBUTES}, trimmed, keys in lower case. */
export function customAttributes(header: string | undefined): [key: string, value: string][] {
  return (header ?? '').split(';').flatMap((part): [string, string][] => {
    const at = part.indexOf('=');
    return at < 0 ? [] : [[part.slice(0, at).trim().toLowerCase(), part.slice(at + 1).trim()]];
  });
}

/** Value of the first part with that key; undefined = not there. */
export function customAttribute(header: string | undefined, key: string): string | undefined {
  if (header === undefined) return undefined;
  return customAttributes(header).find(([name]) => name === key)?.[1];
}

/** A header as one text; name in lower case. */
export function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

/** All values of a query parameter. */
export function queryValues(request: FastifyRequest, name: string): readonly string[] {
  const value = (request.query as Readonly<Record<string, string | string[] | undefined>>)[name];
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}

/** The one value of what may be repeated only with the same value. Throws INVALID_REQUEST. */
export function only(values: readonly string[], name: string): string | undefined {
  const [first] = values;
  if (values.every((value) => value === first)) return first;
  throw new AppError('INVALID_REQUEST', `${name} is given several times with different values`);
}
