/** The context of a call over HTTP. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { ACTOR_HEADER, callerOf } from '../listener/caller.js';
import { PRIORITY_HEADER, readPriority } from '../service/priority.js';
import type { CallContext } from '../service/types.js';
import { header } from './headers.js';

/** The signal aborts as soon as the connection (or the h2 stream) ends before the answer does. */
export function callContext(request: FastifyRequest, reply: FastifyReply): CallContext {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    // Not `writableFinished`: over HTTP/2 that is true for a stream which the client has reset.
    if (!reply.raw.writableEnded) controller.abort(new AppError('CANCELED', 'the client went away'));
  });
  const named = request.headers[ACTOR_HEADER];
  const actor = callerOf(typeof named === 'string' ? named : undefined, request.raw.socket?.remoteAddress);
  const priority = readPriority(header(request, PRIORITY_HEADER));
  return { requestId: request.id, signal: controller.signal, actor, priority };
}
