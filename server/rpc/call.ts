import { randomUUID } from 'node:crypto';
import { Code, type ConnectError, createContextKey, type HandlerContext, type Interceptor } from '@connectrpc/connect';
import { AppError, FAULTS } from '../errors.js';
import { ACTOR_HEADER, callerOf } from '../listener/caller.js';
import { PRIORITY_HEADER, readPriority } from '../service/priority.js';
import type { CallContext } from '../service/types.js';
import { classify, toConnectError } from './errors.js';

const REQUEST_ID_HEADER = 'x-request-id';

/** One finished call, for the log. */
export interface RpcRecord {
  readonly requestId: string;
  /** For example `loramux.v1.InferenceService/Predict`. */
  readonly method: string;
  /** `ok`, or the name of the code, for example `not_found`. */
  readonly code: string;
  /** Reason of our error table, if the error has one. */
  readonly reason?: string | undefined;
  readonly ms: number;
  /** What was thrown, where the code alone does not tell: faults of the server. */
  readonly error?: unknown;
}

/** Takes the record of every call when it has ended. */
export type RpcLog = (record: RpcRecord) => void;

/** The request id of a call. */
export const kRequestId = createContextKey('', { description: 'request id' });

/** True once the end of the call is told: more than one place sees it, as where a deadline passes before the interceptor. */
export const kLogged = createContextKey(false, { description: 'the end of the call is told' });

/** Address of the caller, where there is a connection. */
export const kPeer = createContextKey<string | undefined>(undefined, { description: 'address of the caller' });

/** What the service layer needs to know of a call; a `priority` of the message precedes that of the header. */
export function callContext(context: HandlerContext, priority?: number): CallContext {
  const leftMs = context.timeoutMs();
  return {
    requestId: context.values.get(kRequestId),
    signal: context.signal,
    actor: callerOf(context.requestHeader.get(ACTOR_HEADER), context.values.get(kPeer)),
    priority: priority ?? readPriority(context.requestHeader.get(PRIORITY_HEADER)),
    ...(leftMs !== undefined && { deadline: performance.timeOrigin + performance.now() + leftMs }),
  };
}

/**
 * Wraps every call: gives it its request id, renders what it throws, and reports its end. The id comes from the
 * listener; a call that did not pass it (in memory) brings its own or gets a new one, and is told in the headers.
 */
export function callInterceptor(log: RpcLog | undefined): Interceptor {
  return (next) => async (req) => {
    const given = req.header.get(REQUEST_ID_HEADER);
    const requestId = given ?? randomUUID();
    req.contextValues.set(kRequestId, requestId);
    const started = performance.now();
    const method = `${req.service.typeName}/${req.method.name}`;
    const end = (code: string, app?: AppError): void => {
      if (req.contextValues.get(kLogged)) return;
      req.contextValues.set(kLogged, true);
      const ms = performance.now() - started;
      const fault = app !== undefined && FAULTS.has(app.reason);
      log?.({ requestId, method, code, reason: app?.reason, ms, error: fault ? (app.cause ?? app) : undefined });
    };
    const fail = (thrown: unknown): ConnectError => {
      const error = classify(thrown, req.signal);
      const rendered = toConnectError(error, requestId);
      end(codeName(rendered.code), error instanceof AppError ? error : undefined);
      return rendered;
    };
    try {
      const res = await next(req);
      res.header.set(REQUEST_ID_HEADER, requestId);
      if (res.stream) {
        // Over HTTP/1.1 nobody reads on, nor returns, where the client has left.
        const gone = (): void => {
          if (!req.contextValues.get(kLogged)) fail(new AppError('CANCELED', 'the call was cancelled'));
        };
        req.signal.addEventListener('abort', () => setImmediate(gone), { once: true });
        return { ...res, message: watch(res.message, () => end('ok'), fail) };
      }
      end('ok');
      return res;
    } catch (thrown) {
      const error = fail(thrown);
      if (given === null) error.metadata.set(REQUEST_ID_HEADER, requestId); // else the listener has set it
      throw error;
    }
  };
}

/** Code names as the Connect protocol spells them: `NotFound` is `not_found`. */
export function codeName(code: Code): string {
  return (Code[code] ?? 'unknown').replace(/(?!^)([A-Z])/g, '_$1').toLowerCase();
}

async function* watch<T>(
  messages: AsyncIterable<T>,
  done: () => void,
  fail: (thrown: unknown) => ConnectError,
): AsyncGenerator<T> {
  let left = true;
  try {
    yield* messages;
    left = false;
    done();
  } catch (thrown) {
    left = false;
    throw fail(thrown);
  } finally {
    if (left) fail(new AppError('CANCELED', 'the call was cancelled'));
  }
}
