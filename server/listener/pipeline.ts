/**
 * Requests that a client of HTTP/1.1 sends before it has the answer to an earlier one. Node reads what has come at once and
 * would begin thousands of them in one turn of the event loop, in which nobody else is served.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** Requests that may wait on a connection before no more is read of it; what had come by then is on top of them. */
const MANY_WAIT = 256;
/** What a request that waits takes in memory besides its body, roughly. */
export const WAITING_BYTES = 2048;

/** Begins a request. */
export type Begin = (req: IncomingMessage, res: ServerResponse) => void;

/** Part of Node's own bound for answers that wait for the one before them: above its sum the connection is not read. */
interface Pending {
  _onPendingData?(bytes: number): void;
}

/**
 * The requests of one connection: each is begun once the system has taken the whole answer to the one before it, and in a
 * turn of its own. Requests that are not safe must not overtake one another anyhow (RFC 9112, section 9.3.2).
 */
export class Pipeline {
  readonly #socket: Socket;
  readonly #begin: Begin;
  readonly #waiting: (readonly [IncomingMessage, ServerResponse])[] = [];
  readonly #weight: number;
  #busy = false;

  constructor(socket: Socket, begin: Begin) {
    this.#socket = socket;
    this.#begin = begin;
    this.#weight = socket.writableHighWaterMark / MANY_WAIT;
  }

  /** Whether a request that comes now has to wait. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Whether a request whose body is coming still has to be begun. */
  waits(req: IncomingMessage): boolean {
    return this.#waiting.at(-1)?.[0] === req;
  }

  /** Begins a request, at once or in its turn. */
  take(req: IncomingMessage, res: ServerResponse): void {
    if (this.#busy) {
      this.#waiting.push([req, res]);
      (res as Pending)._onPendingData?.(this.#weight);
      return;
    }
    this.#busy = true;
    this.#start(req, res);
  }

  #start(req: IncomingMessage, res: ServerResponse): void {
    res.once('close', this.#ended);
    this.#begin(req, res);
  }

  readonly #ended = (): void => {
    if (this.#waiting.length === 0) this.#busy = false;
    else setImmediate(this.#next);
  };

  readonly #next = (): void => {
    // The client is gone, or was told that no further request is answered on this connection.
    if (!this.#socket.writable) {
      this.#waiting.length = 0;
      return;
    }
    const [req, res] = this.#waiting.shift()!;
    (res as Pending)._onPendingData?.(-this.#weight);
    this.#start(req, res);
  };
}
