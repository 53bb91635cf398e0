/** What a handler returned, as parts of an HTTP answer. */
import { OUTPUT, type OutputBody, type OutputValue } from '../../sdk/handler.js';

/** An answer whose body may still be a stream of values. */
export interface HandlerParts {
  readonly code: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array | undefined;
  /** Absent where the body is whole. */
  readonly stream?: AsyncIterable<unknown> | undefined;
}

/**
 * Content types, unless the handler gave one: plain text, octets, JSON lines for a stream, JSON for anything else.
 * @throws TypeError for an answer that cannot be sent
 */
export function partsOf(returned: OutputBody | OutputValue | undefined): HandlerParts {
  const wrapped = isOutput(returned);
  const body = wrapped ? returned.body : returned;
  const code = (wrapped ? returned.code : undefined) ?? (body === undefined ? 204 : 200);
  if (!Number.isInteger(code) || code < 200 || code > 599)
    throw new TypeError(`a handler cannot answer with the status ${code}; 200 to 599 would be right`);
  const given = wrapped ? (returned.properties ?? {}) : {};
  const typed = Object.keys(given).some((name) => name.toLowerCase() === 'content-type');
  const headers = (type: string) => (typed ? given : { ...given, 'content-type': type });
  if (body === undefined) return { code, headers: given, body: undefined };
  if (typeof body === 'string') return { code, headers: headers('text/plain; charset=utf-8'), body };
  if (body instanceof Uint8Array) return { code, headers: headers('application/octet-stream'), body };
  if (isStream(body)) return { code, headers: headers('application/jsonlines'), body: undefined, stream: body };
  const json = jsonOf(body, 'a handler cannot answer with');
  return { code, headers: headers('application/json; charset=utf-8'), body: json };
}

/** An item of a stream as it is sent: texts and bytes as they are, anything else as a line of JSON. */
export function pieceOf(item: unknown): string | Uint8Array {
  if (typeof item === 'string' || item instanceof Uint8Array) return item;
  return `${jsonOf(item, 'a stream cannot hold')}\n`;
}

/** Refuses what JSON has no form for. Of a map, an iterator, other buffers or a promise it would make an empty object. */
function jsonOf(value: unknown, cannot: string): string {
  if (isHollow(value)) throw new TypeError(`${cannot} a ${Object.prototype.toString.call(value).slice(8, -1)}`);
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (cause) {
    throw new TypeError(`${cannot} this value: ${(cause as Error).message}`, { cause });
  }
  if (json === undefined) throw new TypeError(`${cannot} a ${typeof value}`);
  return json;
}

function isHollow(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || 'toJSON' in value) return false;
  return (
    Symbol.iterator in value || ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof Promise
  );
}

function isOutput(value: unknown): value is OutputValue {
  return typeof value === 'object' && value !== null && OUTPUT in value;
}

function isStream(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}
