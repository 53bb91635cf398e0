/**
 * Errors that the protocol layer raises before any interceptor runs: messages that cannot be read, are too long, or are
 * packed in a way that nobody knows. They get what every other error has.
 */
import { base64Decode } from '@bufbuild/protobuf/wire';
import { Code, ConnectError, type HandlerContext } from '@connectrpc/connect';
import { codeName, kLogged, kRequestId, type RpcLog } from './call.js';
import { explain } from './errors.js';

/**
 * Makes the `requestGate` of a router. It lets every call pass whose query can be read, and listens for the end of the
 * call, which the protocol layer announces with the error, before it writes that error down.
 */
export function explainingGate(log: RpcLog | undefined): (context: HandlerContext) => void {
  return (context) => {
    const started = performance.now();
    const { signal, values } = context;
    const ended = (): void => {
      const error: unknown = signal.reason;
      // What passed the interceptors is explained and logged by them.
      if (!(error instanceof ConnectError) || values.get(kRequestId) !== '') return;
      const requestId = context.requestHeader.get('x-request-id') ?? '';
      const reason = explain(error, requestId);
      values.set(kLogged, true);
      const method = `${context.service.typeName}/${context.method.name}`;
      log?.({ requestId, method, code: codeName(error.code), reason, ms: performance.now() - started });
    };
    signal.addEventListener('abort', ended, { once: true });
    refuseBrokenBase64(context);
  };
}

/** The protocol layer would take it for a fault of the server. */
function refuseBrokenBase64({ requestMethod, url }: HandlerContext): void {
  if (requestMethod !== 'GET') return;
  const query = new URL(url).searchParams;
  if (query.get('base64') !== '1') return;
  try {
    base64Decode(query.get('message') ?? '');
  } catch {
    throw new ConnectError('message of the query is no base64, as base64=1 says', Code.InvalidArgument);
  }
}
