/** Request bodies: bytes in, JSON value or plain text out, by content type. */
import { AppError } from '../errors.js';
import { saysAdapter } from '../service/adapter-names.js';
import { readCsv } from './csv.js';
import { locateJsonFault, positionOf } from './json-position.js';
import { findRepeatedKey } from './repeated-keys.js';

/** A body as it was sent. */
export type Body =
  | { readonly kind: 'none' }
  | { readonly kind: 'json'; readonly value: unknown }
  | { readonly kind: 'text'; readonly text: string };

/**
 * Decodes a body. No content type counts as JSON, and so do a form that begins with a brace (what `curl -d '{...}'`
 * sends) and plain text that is a request object (what `fetch` sends for a string): taken for a prompt, it would be
 * answered by the base model in silence. Throws INVALID_REQUEST with the position where JSON is broken.
 */
export function decodeBody(raw: unknown, contentType: string | undefined): Body {
  if (!Buffer.isBuffer(raw) || raw.length === 0) return { kind: 'none' };
  const type = typeOf(contentType);
  const text = decodeText(raw, charsetOf(contentType));
  if (type === 'text/plain') {
    const request = requestObject(text);
    return request ? { kind: 'json', value: request } : { kind: 'text', text };
  }
  if (type === 'text/csv') return { kind: 'json', value: readCsv(text) };
  const isForm = type === 'application/x-www-form-urlencoded';
  if (isForm ? text.trimStart().startsWith('{') : isJsonType(type)) {
    const value = parseJson(text);
    refuseRepeatedKeys(text);
    return { kind: 'json', value };
  }
  throw new AppError(
    'INVALID_REQUEST',
    `content type ${type} is not served here; send application/json, text/plain, text/csv or, to the inference routes, a form`,
  );
}

/** A content type without its parameters, lower case; '' where there is none. */
export function typeOf(contentType: string | undefined): string {
  return (contentType ?? '').split(';', 1)[0]!.trim().toLowerCase();
}

/** Narrows a decoded JSON value to an object. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Fields that no request is without, and the one that must not be lost. */
const REQUEST_FIELDS = ['inputs', 'messages', 'prompt', 'adapters'];
/** How a request object begins, alone or in a list, whether it is whole or not; Python prints single quotes. */
const REQUEST_START = new RegExp(`^\\s*\\[?\\s*\\{\\s*["'](${REQUEST_FIELDS.join('|')})["']\\s*:`);

/**
 * The request object that a text is; undefined where it is a prompt.
 * @throws AppError where it begins as a request and is broken, a key stands twice, it is a list of such objects, or it is
 * no request and names an adapter
 */
export function requestObject(text: string): Record<string, unknown> | undefined {
  if (!/^\s*[{[]/.test(text)) return undefined;
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    if (REQUEST_START.test(text)) throw error;
    return undefined;
  }
  const list = Array.isArray(value) ? value : [value];
  const names = list.filter(isObject).flatMap((one) => Object.keys(one));
  if (!names.some((name) => REQUEST_FIELDS.includes(name))) {
    const named = names.find(saysAdapter);
    if (named !== undefined) throw namesAdapter(named);
    return undefined;
  }
  if (!isObject(value)) throw new AppError('INVALID_REQUEST', 'the body must be one request object, not a list');
  refuseRepeatedKeys(text);
  return value;
}

/** Other data than requests has an `alias` or a `selection`, too; what says adapter is too near a request to be a prompt. */
function namesAdapter(field: string): AppError {
  const description =
    'looks like the adapter of a request, which has inputs (or messages, or prompt) beside it; where the text is a prompt, ' +
    'send it as {"inputs": "..."} with content type application/json';
  return new AppError('INVALID_REQUEST', `${field} ${description}`, { violations: [{ field, description }] });
}

function isJsonType(type: string): boolean {
  return type === '' || type === 'application/json' || type === 'application/jsonlines' || type.endsWith('+json');
}

/** The parameter `charset` of a content type; UTF-8 where there is none. */
function charsetOf(contentType: string | undefined): string {
  return /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(contentType ?? '')?.[1] ?? 'utf-8';
}

/**
 * Bytes as text, without the byte order mark. Bytes that are no text are refused, not replaced: a prompt is answered as it
 * was sent.
 * @throws AppError INVALID_REQUEST
 */
export function decodeText(raw: Uint8Array, charset = 'utf-8', what = 'the body'): string {
  let decoder: InstanceType<typeof TextDecoder>;
  try {
    decoder = new TextDecoder(charset, { fatal: true });
  } catch (cause) {
    throw new AppError('INVALID_REQUEST', `the charset ${charset} is not known; send ${what} as UTF-8`, { cause });
  }
  try {
    return decoder.decode(raw);
  } catch (cause) {
    throw new AppError('INVALID_REQUEST', `${what} is not valid ${decoder.encoding.toUpperCase()}`, { cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const { line, column, problem } = locateJsonFault(text);
    throw new AppError('INVALID_REQUEST', `the body is not valid JSON: ${problem}, at line ${line} column ${column}`, {
      cause,
    });
  }
}

/**
 * @param text valid JSON
 * @param what the text in the message
 * @throws AppError INVALID_REQUEST where an object of it has a key twice: which one was meant cannot be known
 */
export function refuseRepeatedKeys(text: string, what = 'the body'): void {
  const repeated = findRepeatedKey(text);
  if (repeated === undefined) return;
  const { line, column } = positionOf(text, repeated.at);
  const key = JSON.stringify(repeated.key.slice(0, 60));
  throw new AppError(
    'INVALID_REQUEST',
    `${what} has the key ${key} twice in one object, the second time at line ${line} column ${column}; send it once`,
  );
}
