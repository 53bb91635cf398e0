/** Sends a stream of events over HTTP: real status before the first event, back-pressure, end at once when the client leaves. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import { ADAPTER_HEADER, receiptHeader } from '../service/receipt-header.js';
import type { PredictEvent, Receipt } from '../service/types.js';
import type { StreamRenderer } from './dialect.js';
import { lastLine, noteFailure } from './errors.js';

/**
 * Answers with the events as `renderer` writes them. Throws only before the first event, so that the caller can still
 * answer with a status; later failures become the stream's last line. The receipts follow as a trailer,
 * where the protocol has one.
 * @param gone aborts when the client leaves
 */
export async function sendStream(
  reply: FastifyReply,
  events: AsyncIterable<PredictEvent>,
  renderer: StreamRenderer,
  gone: AbortSignal,
): Promise<void> {
  const iterator = events[Symbol.asyncIterator]();
  let next = iterator.next();
  await next;
  const raw = reply.raw;
  reply.header('content-type', renderer.contentType);
  if (takesTrailer(raw, 200)) reply.header('trailer', ADAPTER_HEADER);
  reply.hijack();
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) raw.setHeader(name, value);
  }
  raw.writeHead(200);
  const receipts: Receipt[] = [];
  try {
    for (;;) {
      // What is held goes out as soon as no further event is there: holding never costs a step.
      if (renderer.holding && !(await settlesNow(next))) await write(raw, renderer.flush(), gone);
      const step = await next;
      if (step.done || gone.aborted) break;
      if (step.value.type === 'final') receipts[step.value.index] = step.value.result.receipt;
      await write(raw, renderer.event(step.value), gone);
      next = iterator.next();
    }
    if (gone.aborted) return;
    await write(raw, renderer.end(), gone);
    raw.addTrailers({ [ADAPTER_HEADER]: receiptHeader(receipts) });
  } catch (thrown) {
    const error = noteFailure(thrown, reply.request);
    if (!gone.aborted) raw.write(renderer.failure(lastLine(error, reply.request)));
  } finally {
    // Ends the rows where the loop was left early; not awaited, because a waiting generator would hold the answer.
    iterator.return?.().catch(() => {});
    if (!gone.aborted) raw.end();
  }
}

/**
 * True where an answer may announce a trailer: Node throws where the body does not end in one, and nothing would be sent.
 * HTTP/1.0, which many a proxy speaks to its servers, has none, nor have answers without a body.
 */
export function takesTrailer({ req }: ServerResponse, status: number): boolean {
  return (req.httpVersionMajor > 1 || req.httpVersionMinor > 0) && status !== 204 && status !== 304;
}

/** True where the promise settles before the event loop turns, that is, without waiting for a further step. */
async function settlesNow(promise: Promise<unknown>): Promise<boolean> {
  const settled = promise.then(
    () => true,
    () => true,
  );
  return Promise.race([settled, nextTurn(false)]);
}

/** Writes a piece and waits until there is room for the next, or no client any more. */
export async function write(raw: ServerResponse, text: string | Uint8Array, gone: AbortSignal): Promise<void> {
  if (text.length === 0 || gone.aborted || raw.write(text)) return;
  // Until there is room in the socket, or no client any more.
  await once(raw, 'drain', { signal: gone }).catch(() => {});
}
