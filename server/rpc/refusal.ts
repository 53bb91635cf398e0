/** Answers of the protocol layer that are a status alone: no protocol could be told from the request. */
import type { UniversalServerResponse } from '@connectrpc/connect/protocol';
import { errorToJsonBytes } from '@connectrpc/connect/protocol-connect';
import { AppError } from '../errors.js';
import type { AnyRequest } from '../listener/exchange.js';
import { codeName, type RpcLog } from './call.js';
import { toConnectError } from './errors.js';

/** The procedure that was called. */
interface Called {
  readonly requestPath: string;
  readonly allowedMethods: readonly string[];
  readonly method: { readonly methodKind: string };
}

/** What a call and its answer may be written in; those of a single message and of streams differ. */
function typesOf({ method: { methodKind } }: Called): string {
  const connect = methodKind === 'unary' ? ['json', 'proto'] : ['connect+json', 'connect+proto'];
  return [...connect, 'grpc', 'grpc-web'].map((type) => `application/${type}`).join(', ');
}

function reasonOf(status: number, req: AnyRequest, called: Called): AppError | undefined {
  if (status === 405) {
    return new AppError(
      'METHOD_NOT_ALLOWED',
      `${req.method} is no method of this procedure; use ${called.allowedMethods.join(' or ')}`,
    );
  }
  if (status !== 415) return undefined;
  const given = req.headers['content-type'];
  const what =
    given === undefined ? 'content-type is missing' : `content-type ${JSON.stringify(given)} is none of this procedure`;
  const kind = called.method.methodKind === 'unary' ? 'a single message' : 'a stream';
  const types = typesOf(called);
  return new AppError('INVALID_REQUEST', `${what}, which answers with ${kind}; it takes ${types}`, {
    violations: [{ field: 'content-type', description: `must be one of ${types}` }],
  });
}

/**
 * The same status with the error in the form of Connect, which is JSON, so that whoever sent this reads what is wrong.
 * Undefined for every other answer.
 */
export function refusal(
  response: UniversalServerResponse,
  req: AnyRequest,
  procedure: Called,
  log: RpcLog | undefined,
): UniversalServerResponse | undefined {
  if (response.body !== undefined) return undefined;
  const error = reasonOf(response.status, req, procedure);
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
