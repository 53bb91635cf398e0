/** Reads fields of JSON objects with messages that name the field, what it is and what it must be. */
import { AppError } from '../errors.js';
import { isObject } from './body.js';

/** INVALID_REQUEST for one field. */
export function invalidField(field: string, description: string): AppError {
  return new AppError('INVALID_REQUEST', `${field} ${description}`, { violations: [{ field, description }] });
}

/** How a JSON value is named in a message. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'nothing';
  // A number such as 1e999 is none that JSON could write.
  if (typeof value === 'number') return String(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `${JSON.stringify(value)}`.slice(0, 60);
}

/** Absent and null count as not given. */
export function booleanField(value: unknown, field: string): boolean | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'boolean') return value;
  throw invalidField(field, `must be true or false, not ${kindOf(value)}`);
}

/** Absent and null count as not given; an infinity is what becomes of a number such as 1e999. */
export function numberField(value: unknown, field: string): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw invalidField(field, `must be a number, not ${kindOf(value)}`);
}

/** Absent and null count as not given. */
export function integerField(value: unknown, field: string): number | undefined {
  const number = numberField(value, field);
  if (number === undefined || Number.isSafeInteger(number)) return number;
  throw invalidField(field, `must be a whole number, not ${number}`);
}

/** Absent and null count as not given. */
export function textField(value: unknown, field: string): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string') return value;
  throw invalidField(field, `must be a text, not ${kindOf(value)}`);
}

/** A text, or a list of texts; absent and null count as not given. */
export function textsField(value: unknown, field: string): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  const list = Array.isArray(value) ? value : [value];
  list.forEach((entry, index) => {
    if (typeof entry === 'string') return;
    throw invalidField(
      Array.isArray(value) ? `${field}[${index}]` : field,
      `must be a text${Array.isArray(value) ? '' : ' or a list of texts'}, not ${kindOf(entry)}`,
    );
  });
  return list as string[];
}

/** An object of token ids and numbers, as OpenAI writes a logit bias; absent and null count as not given. */
export function biasField(value: unknown, field: string): ReadonlyMap<number, number> | undefined {
  if (value === undefined || value === null) return undefined;
  if (!isObject(value)) throw invalidField(field, `must be an object such as {"42": -100}, not ${kindOf(value)}`);
  const entries = Object.entries(value).map(([id, bias]): [number, number] => {
    if (!/^\d{1,10}$/.test(id)) throw invalidField(field, `must have token ids as its keys, not ${kindOf(id)}`);
    const number = numberField(bias, `${field}[${id}]`);
    if (number === undefined) throw invalidField(`${field}[${id}]`, 'must be a number, not null');
    return [Number(id), number];
  });
  return entries.length === 0 ? undefined : new Map(entries);
}

/** A list of token ids; absent and null count as not given. */
export function tokenIdsField(value: unknown, field: string): readonly number[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value)) throw invalidField(field, `must be a list of token ids, not ${kindOf(value)}`);
  value.forEach((entry, index) => {
    if (!Number.isSafeInteger(entry) || entry < 0) {
      throw invalidField(`${field}[${index}]`, `must be a token id, not ${kindOf(entry)}`);
    }
  });
  return value as number[];
}
