/**
 * Errors that the protocol layer raises before any interceptor runs: messages that cannot be read, are too long, or are
 * packed in a way that nobody knows. They get what every other error has.
 */
import { ConnectError, type HandlerContext } from '@connectrpc/connect';
import { codeName, kLogged, kRequestId, type RpcLog } from './call.js';
import { explain } from './errors.js';

/**
 * Makes the `requestGate` of a router. It lets every call pass; what it does is to listen for the end of the call, which
 * the protocol layer announces with the error, before it writes that error down.
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
  };
}
