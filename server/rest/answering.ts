/** The ways to answer a request: whole, as a stream, or later, to be fetched by a token. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { PRIORITY_HEADER, readPriority } from '../service/priority.js';
import { ADAPTER_HEADER, receiptHeader, receiptsOf } from '../service/receipt-header.js';
import type { InferenceService, PredictEvent, PredictRequest, PredictResult } from '../service/types.js';
import { callContext } from './call-context.js';
import type { Ask, StreamRenderer } from './dialect.js';
import { lastLine, noteFailure } from './errors.js';
import { accepts, header } from './headers.js';
import type { LaterSink } from './later.js';
import { answerToken } from './later-headers.js';
import { sendStream } from './streaming.js';

/** A request that is to be answered. */
export interface Wanted {
  readonly ask: Ask;
  readonly predict: PredictRequest;
  /** What the answer calls the model. */
  readonly model: string;
}

/** Answers on the request's own connection. Throws before the first byte only. */
export async function answerNow(
  inference: InferenceService,
  { ask, predict, model }: Wanted,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const call = callContext(request, reply);
  if (ask.stream) {
    const events = await inference.stream(predict, call);
    await sendStream(reply, events, ask.renderer(wantsEvents(request), model), call.gone);
    return;
  }
  const results = await inference.predict(predict, call);
  reply.header(ADAPTER_HEADER, receiptHeader(receiptsOf(results)));
  reply.send(ask.answer(results, model));
}

/**
 * Accepts the request and answers with the token of its answer. Throws what refuses the request.
 * @param open opens the place for the answer
 */
export async function answerLater(
  inference: InferenceService,
  open: () => LaterSink,
  wanted: Wanted,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const { ask, predict, model } = wanted;
  const priority = readPriority(header(request, PRIORITY_HEADER));
  const sink = open();
  const call = { requestId: request.id, signal: sink.signal, priority };
  if (!ask.stream && ask.parameters.bestOf !== undefined) {
    // No stream can pick the best samples before all are there; what refuses the request is then told by the fetch.
    inference.predict(predict, call).then(
      (results) => {
        pushWhole(wanted, results, sink);
        sink.done();
      },
      (thrown: unknown) => sink.fail(noteFailure(thrown, request)),
    );
    answerToken(reply, sink.token);
    return;
  }
  let events: AsyncIterable<PredictEvent>;
  try {
    events = await inference.stream(predict, call);
  } catch (refused) {
    sink.drop();
    throw refused;
  }
  const renderer = ask.stream ? ask.renderer(wantsEvents(request), model) : undefined;
  collect(events, wanted, renderer, sink).then(
    () => sink.done(),
    (thrown: unknown) => {
      const error = noteFailure(thrown, request);
      if (renderer !== undefined && sink.begun) {
        sink.push(renderer.failure(lastLine(error, request)));
        sink.done();
      } else sink.fail(error);
    },
  );
  answerToken(reply, sink.token);
}

/** Reads a whole run into the sink: lines of a stream as they come, or the one answer at the end. */
async function collect(
  events: AsyncIterable<PredictEvent>,
  wanted: Wanted,
  renderer: StreamRenderer | undefined,
  sink: LaterSink,
): Promise<void> {
  const results: PredictResult[] = [];
  const type = renderer?.contentType ?? JSON_TYPE;
  const ends = type.startsWith(EVENTS) ? /(?<=\n\n)/ : /(?<=\n)/;
  const lines = (text: string) => {
    for (const line of text.split(ends)) sink.push(line);
  };
  sink.headers({ 'content-type': type });
  for await (const event of events) {
    if (event.type === 'final') results.push(event.result);
    if (renderer !== undefined) lines(renderer.event(event));
  }
  results.sort((a, b) => a.index - b.index || a.sample - b.sample);
  if (renderer === undefined) {
    pushWhole(wanted, results, sink);
    return;
  }
  sink.headers({ [ADAPTER_HEADER]: receiptHeader(receiptsOf(results)) });
  lines(renderer.end());
}

function pushWhole({ ask, model }: Wanted, results: readonly PredictResult[], sink: LaterSink): void {
  sink.headers({ 'content-type': JSON_TYPE, [ADAPTER_HEADER]: receiptHeader(receiptsOf(results)) });
  sink.push(JSON.stringify(ask.answer(results, model)));
}

const EVENTS = 'text/event-stream';
const JSON_TYPE = 'application/json; charset=utf-8';

function wantsEvents(request: FastifyRequest): boolean {
  return accepts(request, EVENTS);
}
