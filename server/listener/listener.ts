/**
 * One port for HTTP/1.1 and cleartext HTTP/2. Node has no such server, so a plain TCP server looks at the first bytes
 * and hands the connection to one of two HTTP servers that never listen themselves. What Node does on `listen` and
 * `close` (header timeouts, idle connections) is done by hand here.
 */
import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as net from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { RequestHandler } from './exchange.js';
import { type AnyRequest, type AnyResponse, assignRequestId, dropConnectionHeaders } from './exchange.js';
import { sniff } from './sniff.js';

/** How a listener treats its clients. */
export interface ListenerOptions {
  /** Answers every request of both protocols. */
  readonly handler: RequestHandler;
  /** Time for the first bytes, which tell the protocol. Default 5000. */
  readonly sniffTimeoutMs?: number | undefined;
  /** HTTP/1.1: time for the headers of a request; 408 after it. Default 10000. */
  readonly headersTimeoutMs?: number | undefined;
  /** Time for a request's body: HTTP/1.1 in all (408 after it), HTTP/2 between two pieces (reset). Default 60000. */
  readonly requestTimeoutMs?: number | undefined;
  /** Bodies that are declared longer are not asked for (`Expect: 100-continue`): who answers refuses them. Default: any. */
  readonly maxBodyBytes?: number | undefined;
  /** A connection without a request is closed after this time. Default 75000 (HTTP/1.1), 900000 (HTTP/2). */
  readonly idleTimeoutMs?: number | undefined;
  /** HTTP/2: requests at a time on one connection. Default 256. */
  readonly maxConcurrentStreams?: number | undefined;
  /** Open connections; more are closed at once. Default 10000. */
  readonly maxConnections?: number | undefined;
}

/** A server that can listen once and be closed once. */
export interface Listener {
  /** Starts to accept; rejects with Node's error, for example `EADDRINUSE`. Port 0 picks a free one. */
  listen(host: string, port: number): Promise<void>;
  /** Where it listens; undefined before. */
  readonly address: net.AddressInfo | undefined;
  /**
   * Stops in phases: no new connections; idle ones are closed, running exchanges finish; after `graceMs`
   * `beforeCut` is called, so that streams can still be ended properly; shortly after that what is left is cut.
   * Resolves when the last connection is gone.
   */
  close(graceMs: number, beforeCut?: () => void): Promise<void>;
}

/** Turns of the event loop in which a connection is taken, its first bytes are read, and its request is begun. */
const READ_TURNS = 3;
/** How often header timeouts are checked, and idle connections looked for while closing. */
const CHECK_MS = 250;
/** HTTP/2: what a client gets to end its request once the answer is complete. */
const UNREAD_BODY_MS = 500;
/** What streams get between `beforeCut` and the cut. */
const CUT_AFTER_MS = 500;

/** Creates a listener; nothing is opened before {@link Listener.listen}. */
export function createListener(options: ListenerOptions): Listener {
  const sessions = new Set<http2.ServerHttp2Session>();
  const undecided = new Set<net.Socket>();
  const requestTimeoutMs = options.requestTimeoutMs ?? 60_000;
  const h2IdleMs = options.idleTimeoutMs ?? 900_000;
  const maxBodyBytes = options.maxBodyBytes ?? Number.POSITIVE_INFINITY;
  const wantsBody = ({ headers }: AnyRequest): boolean => !(Number(headers['content-length']) > maxBodyBytes);
  let closing = false;

  const h1 = http.createServer({
    headersTimeout: options.headersTimeoutMs ?? 10_000,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: options.idleTimeoutMs ?? 75_000,
    connectionsCheckingInterval: CHECK_MS,
    noDelay: true,
  });
  // Node would drop those beyond the first thousand in silence, and one of them may name the adapter. Their bytes stay
  // bounded, and HTTP/2 resets a request with too many.
  h1.maxHeadersCount = 0;
  h1.on('request', (req: AnyRequest, res: AnyResponse) => {
    if (closing) res.setHeader('connection', 'close');
    assignRequestId(req, res);
    options.handler(req, res);
  });
  h1.on('checkContinue', (req: http.IncomingMessage, res: http.ServerResponse) => {
    if (wantsBody(req)) res.writeContinue();
    // The client may send it all the same, or the next request: nobody could tell which.
    else res.setHeader('connection', 'close');
    h1.emit('request', req, res);
  });
  h1.emit('listening'); // starts the timeout checks, which a server that never listens would not make

  const h2 = http2.createServer({
    settings: { maxConcurrentStreams: options.maxConcurrentStreams ?? 256 },
  });
  h2.on('request', (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => {
    limitBody(req, requestTimeoutMs);
    dropConnectionHeaders(res);
    assignRequestId(req, res);
    options.handler(req, res);
  });
  h2.on('checkContinue', (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => {
    if (wantsBody(req)) res.writeContinue();
    h2.emit('request', req, res);
  });
  h2.on('sessionError', () => {}); // the session is destroyed already; there is no request to tell
  h2.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
    session.setTimeout(h2IdleMs, () => session.close()); // running streams still finish
    if (closing) session.close();
  });

  const server = net.createServer({ noDelay: true }, (socket) => {
    undecided.add(socket);
    socket.once('close', () => undecided.delete(socket));
    sniff(socket, options.sniffTimeoutMs ?? 5_000, (protocol) => {
      undecided.delete(socket);
      const owner = protocol === 'h2' ? h2 : h1;
      Object.assign(socket, { server: owner }); // Node reports client errors to the server that a socket names
      owner.emit('connection', socket);
    });
  });
  server.maxConnections = options.maxConnections ?? 10_000;

  return {
    listen: (host, port) =>
      new Promise((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, host, () => {
          server.off('error', reject);
          resolve();
        });
      }),
    get address() {
      const address = server.address();
      return address === null || typeof address === 'string' ? undefined : address;
    },
    async close(graceMs, beforeCut) {
      closing = true;
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) session.close();
      // What has arrived by now is read first: on a process that was busy a connection with a request looks idle.
      for (let turns = 0; turns < READ_TURNS; turns += 1) await nextTurn();
      for (const socket of undecided) socket.destroy();
      const closeIdle = (): void => h1.closeIdleConnections();
      closeIdle();
      const idle = setInterval(closeIdle, CHECK_MS);
      const cut = (): void => {
        for (const session of sessions) session.destroy();
        h1.closeAllConnections();
      };
      let cutting: NodeJS.Timeout | undefined;
      const grace = setTimeout(() => {
        beforeCut?.();
        cutting = setTimeout(cut, CUT_AFTER_MS);
      }, graceMs);
      await closed;
      clearInterval(idle);
      clearTimeout(grace);
      clearTimeout(cutting);
      h1.close(() => {}); // ends the timeout checks; its complaint that it never listened is no news
    },
  };
}

/**
 * Resets an HTTP/2 request whose body stops coming; HTTP/1.1 has Node's `requestTimeout` for that. Once the answer is
 * complete nobody waits for the rest of the request either, and an open one would hold up the end of the connection.
 */
function limitBody(req: http2.Http2ServerRequest, pauseMs: number): void {
  const { stream } = req;
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
