/** Requests to a model whose custom handler answers: passed on as they came, answered as the handler says. */
import { validateHeaderName, validateHeaderValue } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { CUSTOM_ATTRIBUTES, customAttributes } from '../service/adapter-names.js';
import type { HandlerAnswer, HandlerRequest, HandlerService } from '../service/handler-types.js';
import { ADAPTER_HEADER, receiptHeader } from '../service/receipt-header.js';
import type { Receipt } from '../service/types.js';
import { callContext } from './call-context.js';
import { lastLine, noteFailure, sendError } from './errors.js';
import type { FormField } from './form.js';
import { header } from './headers.js';
import type { LaterSink } from './later.js';
import { answerToken } from './later-headers.js';
import { takesTrailer, write } from './streaming.js';

/** Headers that belong to the connection and that no handler may set. */
const OWN = new Set(['content-length', 'transfer-encoding', 'connection', 'keep-alive', 'trailer', 'upgrade']);

/** Says which weights answered, as far as the handler generated anything. */
const receiptHeaders = (receipts: readonly Receipt[]): Record<string, string> =>
  receipts.length === 0 ? {} : { [ADAPTER_HEADER]: receiptHeader(receipts) };

/**
 * Answers on the request's own connection, or with a token.
 * @param open opens the place for an answer of which the request wants a token; absent = it wants the answer
 */
export async function answerByHandler(
  handlers: HandlerService,
  { model, adapter, firstPlaceCounts }: Omit<HandlerRequest, 'properties' | 'content'>,
  fields: readonly FormField[] | undefined,
  open: (() => LaterSink) | undefined,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const wanted = { ...handlerRequest(model, request, fields), adapter, firstPlaceCounts };
  if (open !== undefined) {
    const sink = open();
    const call = { requestId: request.id, signal: sink.signal };
    collect(handlers, wanted, call, sink, request).then(
      () => sink.done(),
      (thrown: unknown) => sink.fail(noteFailure(thrown, request)),
    );
    answerToken(reply, sink.token);
    return;
  }
  const call = callContext(request, reply);
  let answer: HandlerAnswer;
  try {
    answer = await handlers.handle(wanted, call);
    checkHeaders(answer.headers);
  } catch (thrown) {
    sendError(thrown, request, reply);
    return;
  }
  const { code, headers, body, receipts } = answer;
  const streams = typeof body === 'object' && !(body instanceof Uint8Array);
  const trailer = takesTrailer(reply.raw, code) ? { trailer: ADAPTER_HEADER } : {};
  const told = streams ? trailer : receiptHeaders(receipts);
  for (const [name, value] of Object.entries({ ...headers, ...told })) reply.header(name, value);
  reply.code(code);
  if (body === undefined || typeof body === 'string') reply.send(body);
  else if (body instanceof Uint8Array) reply.send(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
  else await sendPieces(body, receipts, request, reply, call.gone);
}

function handlerRequest(
  model: string,
  request: FastifyRequest,
  fields: readonly FormField[] | undefined,
): HandlerRequest {
  const properties: [string, string][] = Object.entries(request.headers).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, Array.isArray(value) ? value.join(', ') : value]],
  );
  properties.push(...customAttributes(header(request, CUSTOM_ATTRIBUTES)));
  const query = Object.entries(request.query as Record<string, string | string[]>).flatMap(([key, value]) =>
    (Array.isArray(value) ? value : [value]).map((one) => ({ key, value: Buffer.from(one) })),
  );
  const raw = request.body;
  const body = Buffer.isBuffer(raw) && raw.length > 0 ? [{ key: 'data', value: raw }] : [];
  // `curl -d 'a text'` labels the text as a form: one field of that name, and nothing in it.
  const [only, second] = fields ?? [];
  const isText = only !== undefined && second === undefined && only.value.length === 0 && !/[=&]/.test(String(raw));
  const parts = fields === undefined || isText ? body : fields.map(({ name, value }) => ({ key: name, value }));
  return { model, properties, content: [...query, ...parts] };
}

function checkHeaders(headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) {
    try {
      if (OWN.has(name.toLowerCase())) throw new TypeError('it belongs to the connection');
      if (name.toLowerCase() === ADAPTER_HEADER) throw new TypeError('the server says itself which weights answered');
      validateHeaderName(name);
      validateHeaderValue(name, value);
    } catch (cause) {
      const message = `the handler answered with a header ${JSON.stringify(name)} that cannot be sent`;
      throw new AppError('HANDLER_FAILED', `${message}: ${(cause as Error).message}`, { cause });
    }
  }
}

/** Sends a stream: real status until the first piece, then a last line that tells of a failure; receipts as a trailer. */
async function sendPieces(
  pieces: AsyncIterable<string | Uint8Array>,
  receipts: readonly Receipt[],
  request: FastifyRequest,
  reply: FastifyReply,
  gone: AbortSignal,
): Promise<void> {
  const iterator = pieces[Symbol.asyncIterator]();
  let step: IteratorResult<string | Uint8Array>;
  try {
    step = await iterator.next();
  } catch (thrown) {
    reply.removeHeader('content-type').removeHeader('trailer');
    sendError(thrown, request, reply);
    return;
  }
  const { raw } = reply;
  reply.hijack();
  for (const [name, value] of Object.entries(reply.getHeaders())) if (value !== undefined) raw.setHeader(name, value);
  raw.writeHead(reply.statusCode);
  const lines = new OpenLine();
  try {
    for (; !step.done && !gone.aborted; step = await iterator.next()) {
      lines.sent(step.value);
      await write(raw, step.value, gone);
    }
    if (!gone.aborted) raw.addTrailers(receiptHeaders(receipts));
  } catch (thrown) {
    const error = noteFailure(thrown, request);
    if (!gone.aborted) raw.write(lines.failure(lastLine(error, request), String(reply.getHeader('content-type'))));
  } finally {
    iterator.return?.().catch(() => {});
    if (!gone.aborted) raw.end();
  }
}

/** What a handler's stream has sent last: it may have left its line open, and a failure has a line of its own. */
class OpenLine {
  #last: string | Uint8Array = '';

  sent(piece: string | Uint8Array): void {
    if (piece.length > 0) this.#last = piece;
  }

  /** How the stream ends that fails now. @param told what its last line says */
  failure(told: object, type: string): string {
    const json = JSON.stringify(told);
    const open = this.#last.length > 0 && Buffer.from(this.#last.slice(-1)).at(-1) !== 0x0a;
    if (type.startsWith('text/event-stream')) return `${open ? '\n\n' : ''}data: ${json}\n\n`;
    return `${open ? '\n' : ''}${json}\n`;
  }
}

async function collect(
  handlers: HandlerService,
  wanted: HandlerRequest,
  call: { requestId: string; signal: AbortSignal },
  sink: LaterSink,
  request: FastifyRequest,
): Promise<void> {
  const { code, headers, body, receipts } = await handlers.handle(wanted, call);
  checkHeaders(headers);
  sink.status(code);
  sink.headers({ ...headers, ...receiptHeaders(receipts) });
  if (body === undefined) return;
  if (typeof body === 'string' || body instanceof Uint8Array) {
    sink.push(body);
    return;
  }
  const lines = new OpenLine();
  try {
    for await (const piece of body) {
      lines.sent(piece);
      sink.push(piece);
    }
    sink.headers(receiptHeaders(receipts));
  } catch (thrown) {
    if (!sink.begun) throw thrown;
    const error = noteFailure(thrown, request);
    sink.push(lines.failure(lastLine(error, request), headers['content-type'] ?? ''));
  }
}
