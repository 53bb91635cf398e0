/** Answers of the protocol layer that are a status alone: no protocol could be told from the request. */
import type { UniversalServerResponse } from '@connectrpc/connect/protocol';
import { errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import { AppError } from '../errors.js';
import type { AnyRequest } from '../listener/exchange.js';
import { codeName, type RpcLog } from './call.js';
import { toConnectError } from './errors.js';

const TYPES =
  'application/json, application/proto, application/connect+json, application/connect+proto, application/grpc, application/grpc-web';

function reasonOf(status: number, req: AnyRequest, methods: readonly string[]): AppError | undefined {
  if (status === 405) {
    return new AppError(
      'METHOD_NOT_ALLOWED',
      `${req.method} is no method of this procedure; use ${methods.join(' or ')}`,
    );
  }
  if (status !== 415) return undefined;
  const given = req.headers['content-type'];
  const what =
    given === undefined ? 'content-type is missing' : `content-type ${JSON.stringify(given)} is none of this procedure`;
  return new AppError('INVALID_REQUEST', `${what}; those of unary calls and of streams differ: ${TYPES}`, {
    violations: [{ field: 'content-type', description: `must be one of ${TYPES}` }],
  });
}

/**
 * The same status with the error in the form of Connect, which is JSON, so that whoever sent this reads what is wrong.
 * Undefined for every other answer.
 * @param procedure its path, and the methods that it takes
 */
export function refusal(
  response: UniversalServerResponse,
  req: AnyRequest,
  procedure: { readonly requestPath: string; readonly allowedMethods: readonly string[] },
  log: RpcLog | undefined,
): UniversalServerResponse | undefined {
  if (response.body !== undefined) return undefined;
  const error = reasonOf(response.status, req, procedure.allowedMethods);
  if (error === undefined) return undefined;
  const requestId = String(req.headers['x-request-id'] ?? '');
  const rendered = toConnectError(error, requestId);
  const method = procedure.requestPath.slice(1);
  log?.({ requestId, method, code: codeName(rendered.code), reason: error.reason, ms: 0 });
  const body = errorToJsonBytes(rendered, undefined);
  const header = new Headers(response.header);
  header.set('content-type', 'application/json');
  header.set('content-length', String(body.byteLength));
  if (response.status === 405) header.set('allow', procedure.allowedMethods.join(', '));
  return { ...response, header, body: chunk(body) };
}

async function* chunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
