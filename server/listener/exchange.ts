import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import { AppError } from '../errors.js';

/** A request of either protocol, as Node's compatibility layer gives it. */
export type AnyRequest = IncomingMessage | Http2ServerRequest;

/** A response of either protocol. */
export type AnyResponse = ServerResponse | Http2ServerResponse;

/** Answers one request; must not throw. */
export type RequestHandler = (req: AnyRequest, res: AnyResponse) => void;

/** Header that carries the request id, in requests and in every response. */
export const REQUEST_ID_HEADER = 'x-request-id';

/** Of a response: true once its client has ended its side of the connection, before that who wants to know of it. */
const kEnded = Symbol('client ended');

interface Ending {
  [kEnded]?: true | (() => void);
}

/** HTTP/1.1: tells who answers that the client has ended its side of the connection. */
export function markClientEnded(res: AnyResponse): void {
  const ending = res as Ending;
  const listener = ending[kEnded];
  ending[kEnded] = true;
  if (typeof listener === 'function') listener();
}

/**
 * Calls back once the client has ended its side of the connection before the answer is complete, or at once if it has. It may
 * be gone, or still wait: nothing tells which (docs/decisions/0075-half-closed-connections.md).
 */
export function onClientEnded(res: AnyResponse, listener: () => void): void {
  const ending = res as Ending;
  const before = ending[kEnded];
  if (before === true) {
    listener();
    return;
  }
  ending[kEnded] =
    before === undefined
      ? listener
      : () => {
          before();
          listener();
        };
}

/** What a call ends with then: rows of who may be gone are not run on. */
export function clientEnded(): AppError {
  const message = 'the client ended its side of the connection before the answer was there, which counts as leaving';
  return new AppError('CANCELED', message);
}

/** What a client may choose as request id: it goes into logs and headers as it is. */
const REQUEST_ID = /^[\x21-\x7e]{1,128}$/;

/** Headers about the connection, which HTTP/2 does not know (RFC 9113, section 8.2.2). */
const CONNECTION_HEADERS = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']);

/**
 * Gives the exchange its request id: the client's `x-request-id` if it is printable ASCII of at most 128 characters,
 * else a new UUID. The request carries it from here on, and so does the response, whoever writes it.
 */
export function assignRequestId(req: AnyRequest, res: AnyResponse): void {
  const given = req.headers[REQUEST_ID_HEADER];
  const id = typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
  req.headers[REQUEST_ID_HEADER] = id;
  res.setHeader(REQUEST_ID_HEADER, id);
}

/**
 * Drops connection headers from an HTTP/2 response. HTTP/1.1 frameworks set them (for example `connection: close` on
 * errors), and Node ends the stream, or worse, when one reaches the wire.
 */
export function dropConnectionHeaders(res: Http2ServerResponse): void {
  const allowed = (name: string): boolean => !CONNECTION_HEADERS.has(name.toLowerCase());
  const setHeader = res.setHeader.bind(res);
  res.setHeader = (name, value) => {
    if (allowed(name)) setHeader(name, value);
    return res;
  };
  const writeHead = res.writeHead.bind(res) as (status: number, headers?: object) => Http2ServerResponse;
  res.writeHead = ((status: number, ...rest: unknown[]) => {
    const headers = rest.find((value) => typeof value === 'object' && value !== null);
    if (Array.isArray(headers)) {
      for (let i = 0; i + 1 < headers.length; i += 2) res.setHeader(String(headers[i]), headers[i + 1]);
      return writeHead(status);
    }
    const kept = Object.entries(headers ?? {}).filter(([name]) => allowed(name));
    return writeHead(status, Object.fromEntries(kept));
  }) as typeof res.writeHead;
}
