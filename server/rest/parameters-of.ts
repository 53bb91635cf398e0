/** Parameters of management calls, wherever they are: the query, and the fields of a JSON body. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { decodeBody, isObject } from './body.js';
import { invalidField, kindOf } from './fields.js';
import { singleValues } from './query.js';

/** Query parameters and the fields of a JSON object, as texts; both may name the same one only with the same value. */
export function parametersOf(request: FastifyRequest): Record<string, string> {
  const values: Record<string, string> = singleValues(request);
  const body = decodeBody(request.body, request.headers['content-type']);
  if (body.kind === 'none' || (body.kind === 'text' && body.text.trim() === '')) return values;
  const fields = body.kind === 'json' ? body.value : undefined;
  if (!isObject(fields)) throw new AppError('INVALID_REQUEST', 'the body must be a JSON object, or empty');
  for (const [key, value] of Object.entries(fields)) {
    if (value === null) continue;
    if (!['string', 'boolean', 'number'].includes(typeof value)) {
      throw invalidField(key, `must be a text, a number or a boolean, not ${kindOf(value)}`);
    }
    const text = String(value);
    if (values[key] !== undefined && values[key] !== text) {
      throw invalidField(key, `is ${JSON.stringify(values[key])} in the query and ${JSON.stringify(text)} in the body`);
    }
    values[key] = text;
  }
  return values;
}
