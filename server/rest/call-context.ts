/** The context of a call over HTTP. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { ACTOR_HEADER, callerOf } from '../listener/caller.js';
import type { CallContext } from '../service/types.js';

/** The signal aborts as soon as the connection (or the h2 stream) ends before the answer does. */
export function callContext(request: FastifyRequest, reply: FastifyReply): CallContext {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    // Not `writableFinished`: over HTTP/2 that is true for a stream which the client has reset.
    if (!reply.raw.writableEnded) controller.abort(new AppError('CANCELED', 'the client went away'));
  });
  const header = request.headers[ACTOR_HEADER];
  const actor = callerOf(typeof header === 'string' ? header : undefined, request.raw.socket?.remoteAddress);
  return { requestId: request.id, signal: controller.signal, actor };
}
