/** Sends a stream of events over HTTP: real status before the first event, back-pressure, end at once when the client leaves. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import type { PredictEvent, Receipt } from '../service/types.js';
import type { StreamRenderer } from './dialect.js';
import { toAppError } from './errors.js';
import { ADAPTER_HEADER, receiptHeader } from './receipt.js';

/**
 * Answers with the events as `renderer` writes them. Throws only before the first event, so that the caller can still
 * answer with a status; later failures become the stream's last line. The receipts follow as a trailer.
 */
export async function sendStream(
  reply: FastifyReply,
  events: AsyncIterable<PredictEvent>,
  renderer: StreamRenderer,
): Promise<void> {
  const iterator = events[Symbol.asyncIterator]();
  let next = iterator.next();
  await next;
  const raw = reply.raw;
  reply.header('content-type', renderer.contentType).header('trailer', ADAPTER_HEADER);
  reply.hijack();
  for (const [name, value] of Object.entries(reply.getHeaders())) {
    if (value !== undefined) raw.setHeader(name, value);
  }
  raw.writeHead(200);
  const receipts: Receipt[] = [];
  try {
    for (;;) {
      // What is held goes out as soon as no further event is there: holding never costs a step.
      if (renderer.holding && !(await settlesNow(next))) await write(raw, renderer.flush());
      const step = await next;
      if (step.done || raw.destroyed) break;
      if (step.value.type === 'final') receipts[step.value.index] = step.value.result.receipt;
      await write(raw, renderer.event(step.value));
      next = iterator.next();
    }
    if (raw.destroyed) return;
    await write(raw, renderer.end());
    raw.addTrailers({ [ADAPTER_HEADER]: receiptHeader(receipts) });
  } catch (thrown) {
    const error = toAppError(thrown);
    if (error.spec.http >= 500) reply.log.error({ err: error.cause ?? error, reason: error.reason }, error.message);
    if (!raw.destroyed) raw.write(renderer.failure(error));
  } finally {
    // Ends the rows where the loop was left early; not awaited, because a waiting generator would hold the answer.
    iterator.return?.().catch(() => {});
    if (!raw.destroyed) raw.end();
  }
}

/** True where the promise settles before the event loop turns, that is, without waiting for a further step. */
async function settlesNow(promise: Promise<unknown>): Promise<boolean> {
  const settled = promise.then(
    () => true,
    () => true,
  );
  return Promise.race([settled, nextTurn(false)]);
}

async function write(raw: ServerResponse, text: string): Promise<void> {
  if (text === '' || raw.destroyed) return;
  if (raw.write(text)) return;
  const stop = new AbortController();
  // Whichever comes first: room in the socket, or the client's end of it.
  await Promise.race(
    ['drain', 'close'].map((name) => once(raw, name, { signal: stop.signal }).catch(() => {})),
  ).finally(() => stop.abort());
}
