/**
 * What open connections hold in memory, and which of them are worth it: those whose clients have stopped reading, have left
 * without a word, or keep more than there is room for are cut. Node has no bound for any of these.
 */
import * as http2 from 'node:http2';
import type { Socket } from 'node:net';
import type { BodyWatch } from './body.js';
import { Connection } from './connection.js';
import type { AnyResponse } from './exchange.js';
import { EXCHANGE_BYTES, Exchange } from './held-exchange.js';
import { LookOrder } from './look-order.js';
import type { CutReason, CutTold, Patience } from './patience.js';

const { NGHTTP2_ENHANCE_YOUR_CALM: CALM } = http2.constants;
/** Longest time that passes between two looks, so that what a busy process has not read yet is held against nobody. */
const LONGEST_LOOK_MS = 1000;
/** A connection that holds nothing is quiet this long after a request, or a part of one, has come. */
const QUIET_MS = 1000;
/** What a client of HTTP/1.1 is told whose request was not taken up. */
const REFUSALS: Partial<Record<CutReason, string>> = {
  'too much held': 'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n',
  'body in crumbs': 'HTTP/1.1 400 Bad Request\r\n',
};

/** Every open connection of a listener. */
export class Connections {
  readonly #patience: Patience;
  readonly #told: CutTold;
  readonly #cuts = new Map<CutReason, { readonly address: string | undefined; count: number }>();
  readonly #open = new LookOrder<Connection>();
  readonly #of = new WeakMap<object, Connection>();
  /** Milliseconds in which this process had time to look. */
  #now = 0;
  #lookedAt = performance.now();

  constructor(patience: Patience, told: CutTold = () => {}) {
    this.#patience = patience;
    this.#told = told;
  }

  /** Looks after a connection until it closes. */
  add(socket: Socket, session?: http2.ServerHttp2Session): void {
    const connection: Connection = new Connection(socket, session, this.#now, {
      stir: () => {
        connection.stirredAt = this.#now;
        this.#open.stir(connection);
      },
      cut: (exchange, reason) => this.#cut(connection, exchange, reason),
    });
    this.#open.add(connection);
    this.#of.set(session ?? socket, connection);
    // Not when the session closes: one that is destroyed waits for what it was writing, for ever where nobody reads.
    socket.once('close', () => this.#open.delete(connection));
  }

  /**
   * Counts an exchange until its answer is closed.
   * @param owner the session, or the socket where there is none
   * @returns watches the request's body
   */
  exchange(owner: object, res: AnyResponse): BodyWatch {
    const connection = this.#of.get(owner);
    const exchange = new Exchange(res, this.#now, connection?.owner);
    if (connection === undefined) return exchange;
    connection.exchanges.add(exchange);
    connection.owner.stir();
    res.once('close', () => {
      connection.exchanges.delete(exchange);
      connection.idleSince = this.#now;
    });
    return exchange;
  }

  /** Answers of a connection that are not complete. */
  answers(owner: object): AnyResponse[] {
    return [...(this.#of.get(owner)?.exchanges ?? [])].map(({ res }) => res);
  }

  /** A client has reset a request: who does little else is cut, as each costs what a request costs. */
  reset(owner: object): void {
    const connection = this.#of.get(owner);
    if (connection === undefined || connection.reset(this.#now)) return;
    // Not at once: the library is in the middle of reading, and the process would die of it.
    setImmediate(() => this.#end(connection, 'too many requests reset', CALM));
  }

  /** To be called a few times a second. */
  look(): void {
    const at = performance.now();
    const passed = Math.min(at - this.#lookedAt, LONGEST_LOOK_MS);
    this.#lookedAt = at;
    this.#now += passed;
    let held = 0;
    for (const connection of this.#open.due()) {
      const bytes = this.#lookAt(connection);
      held += bytes;
      const { session } = connection;
      if (session?.destroyed) connection.socket.destroy();
      else if (session !== undefined) this.#askAfter(connection, session);
      this.#open.settle(connection, bytes === 0 && this.#now - connection.stirredAt >= QUIET_MS);
    }
    if (held > this.#patience.heldBytes) this.#makeRoom(held);
    for (const [reason, { address, count }] of this.#cuts) this.#told(reason, address, count);
    this.#cuts.clear();
  }

  /** Ends every connection at once. */
  endAll(): void {
    for (const { socket, session } of this.#open) {
      session?.destroy();
      socket.destroy();
    }
  }

  /** @returns bytes that the connection holds */
  #lookAt(connection: Connection): number {
    const now = this.#now;
    const moves = connection.goesOn();
    let held = 0;
    for (const exchange of connection.exchanges) {
      const unread = exchange.res.writableLength;
      const bytes = (unread > 0 ? unread + EXCHANGE_BYTES : 0) + (exchange.res.headersSent ? 0 : exchange.body);
      if (bytes !== exchange.held) exchange.changedAt = now;
      if (bytes !== exchange.held || moves || unread === 0) exchange.stuckSince = now;
      exchange.held = bytes;
      held += bytes;
      // A stream that was cut is there after that only where its connection takes nothing at all.
      if (exchange.isCut) this.#end(connection, undefined);
      else if (now - exchange.stuckSince >= this.#patience.unreadMs) this.#cut(connection, exchange, 'answer not read');
    }
    return held;
  }

  /** Cuts what holds most for the longest time until there is room. */
  #makeRoom(held: number): void {
    const all = [...this.#open].flatMap((connection) => {
      const each = [...connection.exchanges].map((exchange) => {
        return { connection, exchange, bytes: exchange.held, weight: exchange.weight(this.#now) };
      });
      if (connection.session !== undefined || each.length === 0) return each;
      // Over HTTP/1.1 they end together.
      const whole = { ...each[0]!, bytes: 0, weight: 0 };
      for (const { bytes, weight } of each) {
        whole.bytes += bytes;
        whole.weight += weight;
      }
      return [whole];
    });
    all.sort((a, b) => b.weight - a.weight);
    let left = held;
    for (const { connection, exchange, bytes } of all) {
      if (left <= this.#patience.heldBytes) return;
      left -= bytes;
      this.#cut(connection, exchange, 'too much held');
    }
  }

  #cut(connection: Connection, exchange: Exchange, reason: CutReason): void {
    exchange.isCut = true;
    if (connection.session === undefined) {
      // Nobody could tell it from a part of the answer that comes before it.
      const [first] = connection.exchanges;
      const told = exchange !== first || exchange.res.headersSent ? undefined : REFUSALS[reason];
      if (told !== undefined) connection.socket.write(`${told}Connection: close\r\nContent-Length: 0\r\n\r\n`);
      this.#end(connection, reason);
      return;
    }
    this.#note(reason, connection.socket);
    (exchange.res as http2.Http2ServerResponse).stream.close(CALM);
  }

  /** A client that has gone without a word, or that the library has given up in silence, answers no ping. */
  #askAfter(connection: Connection, session: http2.ServerHttp2Session): void {
    const now = this.#now;
    const { silenceMs, h2IdleMs } = this.#patience;
    const { bytesRead } = connection.socket;
    if (bytesRead !== connection.received) {
      connection.received = bytesRead;
      connection.receivedAt = now;
      connection.pingedAt = undefined;
    } else if (connection.pingedAt !== undefined) {
      if (now - connection.pingedAt >= silenceMs) this.#end(connection, 'no sign of life');
    } else if (now - connection.receivedAt >= silenceMs) {
      connection.pingedAt = now;
      session.ping(() => {});
    }
    if (connection.exchanges.size === 0 && now - connection.idleSince >= h2IdleMs && !session.closed) session.close();
  }

  #note(reason: CutReason, { remoteAddress }: Socket): void {
    const noted = this.#cuts.get(reason);
    if (noted !== undefined) noted.count += 1;
    else this.#cuts.set(reason, { address: remoteAddress, count: 1 });
  }

  /** @param reason told, if there is one */
  #end({ socket, session }: Connection, reason: CutReason | undefined, code?: number): void {
    if (socket.destroyed || session?.destroyed) return;
    if (reason !== undefined) this.#note(reason, socket);
    if (session === undefined) socket.destroy();
    else session.destroy(undefined, code);
  }
}
