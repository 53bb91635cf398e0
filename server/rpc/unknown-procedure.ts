/** Calls of services and methods that there are not: told as the protocol of the call tells errors, with what there is. */
import type { ConnectError } from '@connectrpc/connect';
import { encodeEnvelope, type UniversalServerResponse } from '@connectrpc/connect/protocol';
import {
  codeToHttpStatus,
  endStreamFlag,
  endStreamToJson,
  errorToJsonBytes,
} from '@connectrpc/connect/protocol-connect';
import { setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import { trailerFlag, trailerSerialize } from '@connectrpc/connect/protocol-grpc-web';
import { AppError } from '../errors.js';
import type { AnyRequest } from '../listener/exchange.js';
import { codeName, type RpcLog } from './call.js';
import { toConnectError } from './errors.js';

/** How a call writes its error. */
type Protocol = 'grpc' | 'grpc-web' | 'connect-stream' | 'connect';

/** `/package.Service/Method`: no path of the other surface has a dot in a first part that is followed by a single part. */
const PROCEDURE = /^\/((?:[A-Za-z_]\w*\.)+[A-Za-z_]\w*)\/([A-Za-z_]\w*)$/;
/** What the log and the metrics call all of them, so that callers cannot make names. */
const METHOD = 'unknown';

/** By the content type, or by the path where that leaves it open; undefined = it is no remote call. */
function protocolOf({ method, headers, url }: AnyRequest): Protocol | undefined {
  const type = (headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (/^application\/grpc-web(-text)?(\+|$)/.test(type)) return 'grpc-web';
  if (/^application\/grpc(\+|$)/.test(type)) return 'grpc';
  if (/^application\/connect\+/.test(type)) return 'connect-stream';
  if (type === 'application/proto') return 'connect';
  const callable = method === 'POST' || method === 'GET';
  return callable && PROCEDURE.test(pathOf(url)) ? 'connect' : undefined;
}

function pathOf(url: string | undefined): string {
  return url?.split('?', 1)[0] ?? '';
}

/** @param known methods of each service, by its full name */
function explain(path: string, known: ReadonlyMap<string, readonly string[]>): AppError {
  const [, service = '', method = ''] = PROCEDURE.exec(path) ?? [];
  const methods = known.get(service);
  const message =
    methods !== undefined
      ? `${service} has no method ${JSON.stringify(method)}; it has ${methods.join(', ')}`
      : service !== ''
        ? `there is no service ${JSON.stringify(service)}; there are ${[...known.keys()].join(', ')}`
        : `${JSON.stringify(path.slice(0, 200))} is no procedure, which has the form /package.Service/Method; services: ${[...known.keys()].join(', ')}`;
  return new AppError('UNIMPLEMENTED', message, { metadata: { procedure: path.slice(0, 200) } });
}

/**
 * The answer to a call that no service takes.
 * @param known methods of each service, by its full name
 * @returns undefined where the request is no remote call
 */
export function unknownProcedure(
  req: AnyRequest,
  known: ReadonlyMap<string, readonly string[]>,
  log: RpcLog | undefined,
): UniversalServerResponse | undefined {
  const protocol = protocolOf(req);
  if (protocol === undefined) return undefined;
  const requestId = String(req.headers['x-request-id'] ?? '');
  const error = toConnectError(explain(pathOf(req.url), known), requestId);
  log?.({ requestId, method: METHOD, code: codeName(error.code), reason: 'UNIMPLEMENTED', ms: 0 });
  return rendered(protocol, error, req.headers['content-type'] ?? '');
}

function rendered(protocol: Protocol, error: ConnectError, type: string): UniversalServerResponse {
  const header = new Headers({ 'content-type': type });
  const status = setTrailerStatus(new Headers(), error);
  switch (protocol) {
    case 'grpc':
      return { status: 200, header, body: chunk(new Uint8Array(0)), trailer: status };
    case 'grpc-web': {
      const frame = encodeEnvelope(trailerFlag, trailerSerialize(status));
      const isText = /^application\/grpc-web-text/i.test(type);
      return { status: 200, header, body: chunk(isText ? Buffer.from(Buffer.from(frame).toString('base64')) : frame) };
    }
    case 'connect-stream': {
      const end = Buffer.from(JSON.stringify(endStreamToJson(new Headers(), error, undefined)));
      return { status: 200, header, body: chunk(encodeEnvelope(endStreamFlag, end)) };
    }
    case 'connect':
      header.set('content-type', 'application/json');
      return { status: codeToHttpStatus(error.code), header, body: chunk(errorToJsonBytes(error, undefined)) };
  }
}

async function* chunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
