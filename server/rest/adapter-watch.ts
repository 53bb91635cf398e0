/** `GET .../adapters?watch=true`: changes of state as JSON lines, or as server-sent events for who accepts them. */
import { once } from 'node:events';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AdapterWatchEvent, Services } from '../service/types.js';
import { watchJson } from './adapter-json.js';
import { callContext } from './call-context.js';
import { noteFailure } from './errors.js';
import { accepts } from './headers.js';

/** Longest silence: an empty line, or a comment, tells both ends that the other is there. */
const BEAT_MS = 15_000;

/** Answers until the client leaves or the server ends. Throws only before the first event. */
export async function watchAdapters(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  asked: { readonly model: string; readonly resumeToken?: string | undefined },
): Promise<void> {
  const { raw } = reply;
  const call = callContext(request, reply);
  const events = services.adapters.watch(asked, call)[Symbol.asyncIterator]();
  let step = await events.next();
  const sse = accepts(request, 'text/event-stream');
  reply.header('content-type', sse ? 'text/event-stream' : 'application/jsonlines');
  reply.hijack();
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value);
  raw.writeHead(200);
  const line = (value: object): string => (sse ? `data: ${JSON.stringify(value)}\n\n` : `${JSON.stringify(value)}\n`);
  const beat = setInterval(() => raw.write(sse ? ': still here\n\n' : '\n'), BEAT_MS);
  try {
    for (; !step.done && !call.signal.aborted; step = await events.next()) {
      const event: AdapterWatchEvent = step.value;
      // Whoever reads slowly is waited for; what changes meanwhile is told once, as it is then.
      if (!raw.write(line(watchJson(event)))) await once(raw, 'drain', { signal: call.gone }).catch(() => {});
    }
  } catch (thrown) {
    const error = noteFailure(thrown, reply.request);
    if (!call.gone.aborted) raw.write(line({ type: 'error', reason: error.reason, message: error.message }));
  } finally {
    clearInterval(beat);
    events.return?.().catch(() => {});
    if (!call.gone.aborted) raw.end();
  }
}
