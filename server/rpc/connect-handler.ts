import { Code, ConnectError, createConnectRouter, createContextValues } from '@connectrpc/connect';
import {
  compressionBrotli,
  compressionGzip,
  universalRequestFromNodeRequest,
  universalResponseToNodeResponse,
} from '@connectrpc/connect-node';
import {
  type AnyRequest,
  type AnyResponse,
  clientEnded,
  onClientEnded,
  type RequestHandler,
} from '../listener/exchange.js';
import type { Services } from '../service/types.js';
import { kPeer } from './call.js';
import { dropFarDeadline } from './far-deadline.js';
import { refusal } from './refusal.js';
import { explainingGate } from './request-gate.js';
import { createRpcRoutes, type RpcOptions } from './routes.js';
import { withPlainMessage } from './status-message.js';
import { unknownProcedure } from './unknown-procedure.js';

/** Default of {@link ConnectHandlerOptions.readMaxBytes}. */
const DEFAULT_READ_MAX_BYTES = 4 * 1024 * 1024;

/** Settings of the handler that main hands to the listener. */
export interface ConnectHandlerOptions extends RpcOptions {
  readonly services: Services;
  /** Answers what is no RPC. */
  readonly fallback: RequestHandler;
  /** Largest request message, after decompression. Default 4 MiB. */
  readonly readMaxBytes?: number | undefined;
  /** Aborts calls that still run when the grace time of a shutdown is over; its reason is what clients are told. */
  readonly shutdownSignal?: AbortSignal | undefined;
  /** Called when a handler or a connection fails outside of any call. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** Serves Connect, gRPC and gRPC-Web, and leaves what is no remote call to `fallback`. */
export function connectHandler(options: ConnectHandlerOptions): RequestHandler {
  const router = createConnectRouter({
    acceptCompression: [compressionGzip, compressionBrotli],
    readMaxBytes: options.readMaxBytes ?? DEFAULT_READ_MAX_BYTES,
    // A misspelled field must not be ignored: that could silently answer with another adapter than the one meant.
    // Zeros and empty texts are written out, so that JSON clients find every field of an answer.
    jsonOptions: { ignoreUnknownFields: false, alwaysEmitImplicit: true },
    requestGate: explainingGate(options.log),
    ...(options.shutdownSignal && { shutdownSignal: options.shutdownSignal }),
  });
  createRpcRoutes(options.services, options)(router);
  const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
  const methods = new Map<string, string[]>();
  for (const { service, method } of router.handlers) {
    methods.set(service.typeName, [...(methods.get(service.typeName) ?? []), method.name]);
  }

  const failed = (reason: unknown, res: AnyResponse): void => {
    const { code } = ConnectError.from(reason);
    if (code === Code.Aborted || code === Code.Canceled) return; // the client is gone, and knows it
    options.onError?.(reason);
    res.destroy();
  };

  return (req: AnyRequest, res: AnyResponse) => {
    const handler = handlers.get(req.url?.split('?', 1)[0] ?? '');
    if (handler === undefined) {
      const unknown = unknownProcedure(req, methods, options.log);
      if (unknown === undefined) options.fallback(req, res);
      else {
        req.resume(); // nobody reads what was sent, and the connection goes on
        universalResponseToNodeResponse(withPlainMessage(unknown), res).catch((reason: unknown) => failed(reason, res));
      }
      return;
    }
    dropFarDeadline(req);
    let request: ReturnType<typeof universalRequestFromNodeRequest>;
    try {
      const values = createContextValues().set(kPeer, req.socket?.remoteAddress);
      request = universalRequestFromNodeRequest(req, res, undefined, values);
    } catch {
      // No URL can be made of the Host header and the path.
      const requestId = String(req.headers['x-request-id'] ?? '');
      options.log?.({ requestId, method: 'unknown', code: 'invalid_argument', reason: 'INVALID_REQUEST', ms: 0 });
      res.writeHead(400, { 'content-type': 'text/plain' });
      res.end('the Host header is missing or malformed\n');
      return;
    }
    handler(req.httpVersionMajor >= 2 ? request : { ...request, signal: untilClientEnds(res, request.signal) })
      .then((response) =>
        universalResponseToNodeResponse(
          withPlainMessage(refusal(response, req, handler, options.log) ?? response),
          res,
        ),
      )
      .catch((reason: unknown) => failed(reason, res));
  };
}

/** Aborts with the given signal, or where a client of HTTP/1.1 ends its side. */
function untilClientEnds(res: AnyResponse, signal: AbortSignal): AbortSignal {
  const ended = new AbortController();
  onClientEnded(res, () => ended.abort(clientEnded()));
  signal.addEventListener('abort', () => ended.abort(signal.reason), { once: true });
  return ended.signal;
}
