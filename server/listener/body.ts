/** Bodies of requests as they come in: in pieces of a size that is worth one, counted, and not for ever. */
import * as http2 from 'node:http2';
import type { Readable } from 'node:stream';
import type { AnyRequest } from './exchange.js';

/** Pieces below this are joined with what else comes in the same turn of the event loop. */
const SMALL_BYTES = 4096;
/** What a piece takes besides its bytes, roughly. */
const PIECE_BYTES = 400;
/** More pieces than this must have some bytes each: reading a byte at a time costs others more than it costs the client. */
const MANY_PIECES = 10_000;
const FEW_BYTES = 16;
/** HTTP/2: what a client gets to end its request once the answer is complete. */
const UNREAD_BODY_MS = 500;

/** Who wants to know of a body. */
export interface BodyWatch {
  /** Told the memory of each piece that is handed on. */
  took(bytes: number): void;
  /** Ends the request. */
  cut(reason: 'body in crumbs'): void;
}

/** The bytes that a request says its body has; undefined = it does not say. */
export function bodyBytes({ headers }: AnyRequest): number | undefined {
  const said = headers['content-length'];
  return said === undefined && 'transfer-encoding' in headers ? undefined : Number(said ?? 0);
}

/**
 * Joins small pieces: a chunk of one byte is six bytes of a connection and four hundred of memory, so that a body within
 * every limit could take all there is.
 * @param whole bytes of all pieces together; undefined = not known
 * @param room bytes that may be there unread before no more is asked for
 */
export function joinPieces(
  body: Readable,
  watch: BodyWatch,
  whole: number | undefined,
  room = () => body.readableHighWaterMark,
): void {
  const push = body.push.bind(body);
  let waiting: Buffer[] = [];
  let bytes = 0;
  let turn: NodeJS.Immediate | undefined;
  let [pieces, total] = [0, 0];
  const flush = (): boolean => {
    clearImmediate(turn);
    const piece = waiting.length === 1 ? waiting[0]! : Buffer.concat(waiting, bytes);
    waiting = [];
    bytes = 0;
    turn = undefined;
    watch.took(piece.length + PIECE_BYTES);
    return push(piece) || body.readableLength < room();
  };
  body.push = (chunk: Buffer | null) => {
    if (chunk === null) {
      if (turn !== undefined) flush();
      return push(null);
    }
    pieces += 1;
    total += chunk.length;
    if (chunk.length === whole) {
      watch.took(whole + PIECE_BYTES);
      return push(chunk);
    }
    if (pieces > MANY_PIECES && total < pieces * FEW_BYTES) {
      watch.cut('body in crumbs');
      return false;
    }
    waiting.push(chunk);
    bytes += chunk.length;
    if (bytes >= SMALL_BYTES) return flush();
    turn ??= setImmediate(() => !body.destroyed && flush());
    // Who is told to stop goes on once what waits was pushed and there is room.
    return body.readableLength + bytes < room();
  };
}

/**
 * Resets an HTTP/2 request whose body stops coming; HTTP/1.1 has Node's `requestTimeout` for that. Once the answer is
 * complete nobody waits for the rest of the request either, and an open one would hold up the end of the connection.
 */
export function limitBody({ stream }: http2.Http2ServerRequest, pauseMs: number): void {
  if (stream.readableEnded || stream.endAfterHeaders) return;
  let timer: NodeJS.Timeout | undefined;
  const closeAfter = (ms: number, code: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => stream.close(code), ms);
    timer.unref();
  };
  const stop = (): void => clearTimeout(timer);
  // A small body comes with the headers: then it is there to its end before anyone has read it, and nothing is waited for.
  if (stream.state.remoteClose !== 1) closeAfter(pauseMs, http2.constants.NGHTTP2_CANCEL);
  const push = stream.push.bind(stream);
  // A 'data' listener would start the flow before the handler reads; watching what arrives does not.
  stream.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (chunk === null) stop();
    else if (!stream.writableFinished) closeAfter(pauseMs, http2.constants.NGHTTP2_CANCEL);
    return push(chunk, encoding);
  };
  // Not the response's own 'finish', which comes only when the whole stream is closed.
  stream.once('finish', () => {
    if (!stream.readableEnded) closeAfter(UNREAD_BODY_MS, http2.constants.NGHTTP2_NO_ERROR);
  });
  stream.once('close', stop);
}
