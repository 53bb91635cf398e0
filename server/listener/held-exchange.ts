import type { BodyWatch } from './body.js';
import type { AnyResponse } from './exchange.js';
import type { CutReason } from './patience.js';

/** What an exchange takes besides its answer, roughly. */
export const EXCHANGE_BYTES = 16 * 1024;

/** Who looks after the exchanges of a connection. */
export interface ExchangeOwner {
  /** A request has come, or more of one. */
  stir(): void;
  cut(exchange: Exchange, reason: CutReason): void;
}

/** A request and its answer, as far as their memory goes. */
export class Exchange implements BodyWatch {
  readonly res: AnyResponse;
  /** Memory of the body that has come; counts until there is an answer. */
  body = 0;
  held = 0;
  changedAt: number;
  /** Since when an answer waits without anything being taken. */
  stuckSince: number;
  isCut = false;
  readonly #owner: ExchangeOwner | undefined;

  /** @param owner absent = nobody */
  constructor(res: AnyResponse, now: number, owner?: ExchangeOwner) {
    this.res = res;
    this.changedAt = now;
    this.stuckSince = now;
    this.#owner = owner;
  }

  took(bytes: number): void {
    this.body += bytes;
    this.#owner?.stir();
  }

  cut(reason: CutReason): void {
    // Not at once: the library is in the middle of reading, and the process would die of it.
    setImmediate(() => !this.isCut && this.#owner?.cut(this, reason));
  }

  /** How much it deserves to be cut where room is needed: by what it holds, and for how long. */
  weight(now: number): number {
    return this.held * (1000 + now - this.changedAt);
  }
}
