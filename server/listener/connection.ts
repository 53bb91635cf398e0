import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Exchange, ExchangeOwner } from './held-exchange.js';

/**
 * Requests that a client of HTTP/2 may reset at once, and in each second: below what the library ends the connection at,
 * which leaves it open for ever.
 */
const RESETS = 500;
const RESETS_A_SECOND = 33;
/** What a connection takes of answers at least where it goes on; pings and their answers are less. */
const PROGRESS_BYTES = 4096;

/** An open connection, as far as its memory and its life go. Times are the milliseconds of who looks after it. */
export class Connection {
  readonly exchanges = new Set<Exchange>();
  /** When a request came last, or a part of one. */
  stirredAt: number;
  /** Bytes that had come when it was last seen that some had, and when that was. */
  received = 0;
  receivedAt: number;
  pingedAt: number | undefined;
  idleSince: number;
  /** Bytes that the system had taken when it was last seen to go on. */
  #taken = 0;
  /** Requests that might be reset at that time. */
  #resets = RESETS;
  #countedAt: number;

  /** @param session absent for HTTP/1.1 */
  constructor(
    readonly socket: Socket,
    readonly session: ServerHttp2Session | undefined,
    now: number,
    readonly owner: ExchangeOwner,
  ) {
    this.stirredAt = now;
    this.receivedAt = now;
    this.idleSince = now;
    this.#countedAt = now;
  }

  /** Whether the system has taken more of the answers since this was asked last. */
  goesOn(): boolean {
    const taken = takenOf(this.socket);
    if (taken - this.#taken < PROGRESS_BYTES) return false;
    this.#taken = taken;
    return true;
  }

  /** A request was reset. @returns false where that was one too many */
  reset(now: number): boolean {
    this.#resets = Math.min(RESETS, this.#resets + ((now - this.#countedAt) / 1000) * RESETS_A_SECOND) - 1;
    this.#countedAt = now;
    return this.#resets >= 0;
  }
}

/** Bytes that the system has taken of what was written; what a write in progress still has is no progress. */
function takenOf(socket: Socket): number {
  const { _handle } = socket as unknown as { _handle?: { writeQueueSize?: number } | null };
  return socket.bytesWritten - (_handle?.writeQueueSize ?? 0);
}
