/** The context of a call over HTTP. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { ACTOR_HEADER, callerOf } from '../listener/caller.js';
import { clientEnded, onClientEnded } from '../listener/exchange.js';
import { PRIORITY_HEADER, readPriority } from '../service/priority.js';
import type { CallContext } from '../service/types.js';
import { header } from './headers.js';

declare module 'fastify' {
  interface FastifyInstance {
    /** Aborts when calls in flight are to end, with what their callers are to be told. */
    cut: AbortSignal | undefined;
  }
}

/** The context of a call, and whether there is anybody left to tell how it ended. */
export interface RestCall extends CallContext {
  /**
   * Aborts as soon as the connection (or the h2 stream) ends before the answer does; so does {@link signal}, and that
   * already where the client has ended its side: it may still read why.
   */
  readonly gone: AbortSignal;
}

/** The signal aborts when the client goes away, or when the server cuts its calls. */
export function callContext(request: FastifyRequest, reply: FastifyReply): RestCall {
  const [controller, gone] = [new AbortController(), new AbortController()];
  const { cut } = request.server;
  const end = (): void => controller.abort(cut?.reason);
  if (cut?.aborted) end();
  else cut?.addEventListener('abort', end);
  onClientEnded(reply.raw, () => controller.abort(clientEnded()));
  reply.raw.once('close', () => {
    cut?.removeEventListener('abort', end);
    // Not `writableFinished`: over HTTP/2 that is true for a stream which the client has reset.
    if (reply.raw.writableEnded) return;
    const left = new AppError('CANCELED', 'the client went away');
    gone.abort(left);
    controller.abort(left);
  });
  const actor = callerOf(header(request, ACTOR_HEADER), request.raw.socket?.remoteAddress);
  const priority = readPriority(header(request, PRIORITY_HEADER));
  return { requestId: request.id, signal: controller.signal, gone: gone.signal, actor, priority };
}
