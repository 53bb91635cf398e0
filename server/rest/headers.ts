/** Headers and query parameters of inference requests, with what repeated ones mean. */
import { isUtf8 } from 'node:buffer';
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { customAttributes } from '../service/adapter-names.js';

/**
 * Value of the parts with that key; undefined = not there.
 * @throws AppError INVALID_REQUEST where two of them differ
 */
export function customAttribute(header: string | undefined, key: string): string | undefined {
  const values = customAttributes(header).filter(([name]) => name === key);
  return only(
    values.map(([, value]) => value),
    `the custom attribute ${key}`,
  );
}

/**
 * A header as one text; name in lower case. Node takes its bytes for Latin-1; where they are UTF-8 they are taken for that,
 * so that names outside of ASCII can be asked for.
 */
export function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  const text = Array.isArray(value) ? value.join(', ') : value;
  if (text === undefined || !/[\x80-\xff]/.test(text)) return text;
  const bytes = Buffer.from(text, 'latin1');
  return isUtf8(bytes) ? bytes.toString('utf8') : text;
}

/** True where `accept` takes that media type by name; `q=0` takes it out. */
export function accepts(request: FastifyRequest, type: string): boolean {
  return (request.headers.accept ?? '').split(',').some((range) => {
    const [name = '', ...parameters] = range.split(';').map((part) => part.trim().toLowerCase());
    return name === type && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
  });
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
  const given = [...new Set(values)].map((value) => JSON.stringify(value)).join(', ');
  throw new AppError('INVALID_REQUEST', `${name} is given several times with different values: ${given}`);
}
