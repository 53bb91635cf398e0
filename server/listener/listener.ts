/**
 * One port for HTTP/1.1 and cleartext HTTP/2. Node has no such server, so a plain TCP server looks at the first bytes
 * and hands the connection to one of two HTTP servers that never listen themselves. What Node does on `listen` and
 * `close` (header timeouts, idle connections) is done by hand here.
 */
import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as net from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { bodyBytes, joinPieces, limitBody } from './body.js';
import { Connections } from './connections.js';
import type { RequestHandler } from './exchange.js';
import { type AnyRequest, assignRequestId, dropConnectionHeaders, markClientEnded } from './exchange.js';
import type { CutTold } from './patience.js';
import { type Begin, Pipeline, WAITING_BYTES } from './pipeline.js';
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
  /** An answer of which nothing is taken for this time is cut. Default 300000. */
  readonly unreadTimeoutMs?: number | undefined;
  /**
   * Bytes of unread answers and of bodies without an answer yet, of all connections together; where there are more, those
   * that hold most for the longest time are cut. Default: the larger of 256 MiB and four bodies.
   */
  readonly maxHeldBytes?: number | undefined;
  /** HTTP/2: silence after which a client is asked whether it is there, and the time to say so. Default 30000. */
  readonly silenceTimeoutMs?: number | undefined;
  /** Called when clients were cut. */
  readonly onCut?: CutTold | undefined;
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
/** Bytes that may be held where bodies are small. */
const HELD_BYTES = 256 * 1024 * 1024;
/** As good as no bound. */
const SESSION_MEGABYTES = 1_000_000;
/** How often connections are looked at, and idle ones looked for while closing. */
const CHECK_MS = 250;
/** What streams get between `beforeCut` and the cut. */
const CUT_AFTER_MS = 500;

/** Creates a listener; nothing is opened before {@link Listener.listen}. */
export function createListener(options: ListenerOptions): Listener {
  const sessions = new Set<http2.ServerHttp2Session>();
  const undecided = new Set<net.Socket>();
  const pipelines = new WeakMap<net.Socket, Pipeline>();
  const requestTimeoutMs = options.requestTimeoutMs ?? 60_000;
  const maxBodyBytes = options.maxBodyBytes ?? Number.POSITIVE_INFINITY;
  const wantsBody = (req: AnyRequest): boolean => !((bodyBytes(req) ?? 0) > maxBodyBytes);
  let closing = false;
  const connections = new Connections(
    {
      unreadMs: options.unreadTimeoutMs ?? 300_000,
      heldBytes: options.maxHeldBytes ?? Math.max(HELD_BYTES, 4 * (options.maxBodyBytes ?? 0)),
      silenceMs: options.silenceTimeoutMs ?? 30_000,
      h2IdleMs: options.idleTimeoutMs ?? 900_000,
    },
    options.onCut,
  );
  const looking = setInterval(() => connections.look(), CHECK_MS).unref();

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
  // A client that has sent all it wants to may end its side and wait for the answer.
  Object.assign(h1, { httpAllowHalfOpen: true });
  const begin: Begin = (req, res) => {
    if (closing) res.setHeader('connection', 'close');
    assignRequestId(req, res);
    options.handler(req, res);
  };
  h1.on('connection', (socket: net.Socket) => {
    connections.add(socket);
    pipelines.set(socket, new Pipeline(socket, begin));
    socket.once('end', () => {
      for (const res of connections.answers(socket)) markClientEnded(res);
    });
  });
  h1.on('request', (req: http.IncomingMessage, res: http.ServerResponse) => {
    const pipeline = pipelines.get(req.socket)!;
    const watch = connections.exchange(req.socket, res);
    const whole = bodyBytes(req);
    if (pipeline.busy) watch.took(WAITING_BYTES);
    // The body of a request that waits is taken all the same: Node would end the connection, and with it the answer that is
    // waited for, where it does not come in time.
    const room = (): number => (pipeline.waits(req) ? maxBodyBytes : req.readableHighWaterMark);
    if (whole !== 0) joinPieces(req, watch, whole, room);
    pipeline.take(req, res);
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
    // Node counts what was unread of an answer that was cancelled for ever, and would refuse all that follows on the
    // connection after 10 MB of it. What answers hold is bounded over all connections.
    maxSessionMemory: SESSION_MEGABYTES,
  });
  h2.on('request', (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => {
    // What is reset in the same breath is never begun: nothing else bounds how much of that one connection can ask for.
    if (res.stream.destroyed) return;
    const watch = connections.exchange(res.stream.session!, res);
    limitBody(req, requestTimeoutMs);
    if (!res.stream.endAfterHeaders) joinPieces(res.stream, watch, undefined);
    dropConnectionHeaders(res);
    assignRequestId(req, res);
    setImmediate(() => {
      if (!res.stream.destroyed) options.handler(req, res);
    });
  });
  h2.on('checkContinue', (req: http2.Http2ServerRequest, res: http2.Http2ServerResponse) => {
    if (wantsBody(req)) res.writeContinue();
    h2.emit('request', req, res);
  });
  h2.on('sessionError', () => {}); // the session is destroyed already; there is no request to tell
  h2.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
    session.on('stream', (stream) => {
      const ended = (): void => {
        if (stream.rstCode !== http2.constants.NGHTTP2_NO_ERROR) connections.reset(session);
      };
      if (stream.destroyed) ended();
      else stream.once('close', ended);
    });
    if (closing) session.close();
  });

  const server = net.createServer({ noDelay: true, allowHalfOpen: true }, (socket) => {
    undecided.add(socket);
    socket.once('close', () => undecided.delete(socket));
    sniff(socket, options.sniffTimeoutMs ?? 5_000, (protocol) => {
      undecided.delete(socket);
      const owner = protocol === 'h2' ? h2 : h1;
      Object.assign(socket, { server: owner }); // Node reports client errors to the server that a socket names
      // Over HTTP/2 streams end, and who ends the connection is gone.
      if (protocol === 'h2') {
        socket.allowHalfOpen = false;
        h2.once('session', (session) => connections.add(socket, session));
      }
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
      let cutting: NodeJS.Timeout | undefined;
      const grace = setTimeout(() => {
        beforeCut?.();
        cutting = setTimeout(() => connections.endAll(), CUT_AFTER_MS);
      }, graceMs);
      await closed;
      clearInterval(idle);
      clearTimeout(grace);
      clearTimeout(cutting);
      clearInterval(looking);
      h1.close(() => {}); // ends the timeout checks; its complaint that it never listened is no news
    },
  };
}
