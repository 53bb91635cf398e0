/** Pieces of a stream between a handler's thread and the one who reads them. */
import type { AppError } from '../errors.js';
import { STREAM_WINDOW } from './messages.js';

type Piece = string | Uint8Array;

/** A queue for one reader. Asks for more when half of the window was read, so that no more than a window waits. */
export class PieceQueue implements AsyncIterableIterator<Piece> {
  readonly #waiting: Piece[] = [];
  readonly #more: (pieces: number) => void;
  readonly #left: () => void;
  #read = 0;
  #state: 'open' | 'ended' | { readonly error: AppError } = 'open';
  #wake: () => void = () => {};

  /**
   * @param more called with the number of pieces that may follow
   * @param left called when the reader leaves before the end
   */
  constructor(more: (pieces: number) => void, left: () => void) {
    this.#more = more;
    this.#left = left;
  }

  push(piece: Piece): void {
    this.#waiting.push(piece);
    this.#wake();
  }

  end(): void {
    if (this.#state === 'open') this.#state = 'ended';
    this.#wake();
  }

  /** Ends with an error; what waits is still read. */
  fail(error: AppError): void {
    if (this.#state === 'open') this.#state = { error };
    this.#wake();
  }

  async next(): Promise<IteratorResult<Piece>> {
    for (;;) {
      const piece = this.#waiting.shift();
      if (piece !== undefined) {
        this.#read++;
        if (this.#read >= STREAM_WINDOW / 2 && this.#state === 'open') {
          this.#more(this.#read);
          this.#read = 0;
        }
        return { done: false, value: piece };
      }
      if (this.#state === 'ended') return { done: true, value: undefined };
      if (this.#state !== 'open') {
        const { error } = this.#state;
        this.#state = 'ended';
        throw error;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async return(): Promise<IteratorResult<Piece>> {
    const open = this.#state === 'open';
    this.#state = 'ended';
    this.#waiting.length = 0;
    if (open) this.#left();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
