/**
 * Answers to fetch later: what a request with `x-synchronous: false` produces, kept until it is fetched, in a bounded
 * memory and for a bounded time. A token names an answer and a place in it, so a fetch that was lost can be repeated.
 */
import { randomUUID } from 'node:crypto';
import { AppError } from '../errors.js';
import type { Asked } from './asked.js';

/** What an answer takes besides its pieces, whether it has any: those that failed at once would else be kept without bounds. */
export const ANSWER_BYTES = 4096;

/** Bounds of what is kept. */
export interface LaterLimits {
  /** Bytes of all kept answers together. */
  readonly maxBytes: number;
  /** How long an answer is kept once it is complete. */
  readonly keepMs: number;
}

/** Where the producer of an answer puts it. */
export interface LaterSink {
  /** Headers of every fetch from here on. */
  headers(headers: Readonly<Record<string, string>>): void;
  /** HTTP status of fetches that find something; 200 unless set. */
  status(code: number): void;
  /** The next piece of the body: a line of a stream, or the whole of another answer. */
  push(piece: string | Uint8Array): void;
  /** Nothing follows. */
  done(): void;
  /** The answer failed: a fetch that finds nothing else throws the error. */
  fail(error: AppError): void;
  /** The request was refused: there is no such answer. */
  drop(): void;
  /** True once a piece was pushed. */
  readonly begun: boolean;
  /** First token of the answer. */
  readonly token: string;
  /** Aborts when the answer is no longer wanted: it does not fit, or the server ends. */
  readonly signal: AbortSignal;
}

/** What a fetch finds. */
export interface Fetched {
  readonly headers: Readonly<Record<string, string>>;
  /** Pieces that follow the token's place; empty = none yet. */
  readonly pieces: readonly (string | Uint8Array)[];
  readonly status: number;
  /** Token of what follows; undefined after the last piece. */
  readonly next: string | undefined;
}

interface Answer {
  readonly asked: Asked;
  readonly pieces: (string | Uint8Array)[];
  status: number;
  readonly abort: AbortController;
  headers: Record<string, string>;
  bytes: number;
  state: 'running' | 'done' | { readonly error: AppError };
  timer?: NodeJS.Timeout;
}

/** Keeps answers by token. */
export class LaterAnswers {
  readonly #limits: LaterLimits;
  /** In the order of their start. */
  readonly #answers = new Map<string, Answer>();
  #bytes = 0;

  constructor(limits: LaterLimits) {
    this.#limits = limits;
  }

  /** Bytes that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Opens a place for an answer. Whoever made it calls `done`, `fail` or `drop` in every case.
   * @param asked what it is asked from
   * @throws AppError QUEUE_FULL when the memory is used up by answers that are still made
   */
  open(asked: Asked): LaterSink {
    const bytes = ANSWER_BYTES + JSON.stringify(asked).length;
    while (this.#bytes + bytes > this.#limits.maxBytes) {
      if (this.#evict()) continue;
      const message = `answers to fetch later take ${this.#bytes} bytes, and none of them is complete`;
      throw new AppError('QUEUE_FULL', message, { retryAfterMs: 1000 });
    }
    const token = randomUUID();
    const abort = new AbortController();
    const answer: Answer = { asked, pieces: [], status: 200, abort, headers: {}, bytes, state: 'running' };
    this.#answers.set(token, answer);
    this.#bytes += bytes;
    return {
      token,
      get begun() {
        return answer.pieces.length > 0;
      },
      headers: (headers) => Object.assign(answer.headers, headers),
      status: (code) => {
        answer.status = code;
      },
      push: (piece) => this.#push(answer, piece),
      done: () => this.#end(token, answer, 'done'),
      fail: (error) => this.#end(token, answer, { error }),
      drop: () => this.#forget(token),
      signal: abort.signal,
    };
  }

  /**
   * @param token of {@link open}, or as the last fetch returned it
   * @param maxItems most pieces to return
   * @throws AppError INVALID_REQUEST for a token that names nothing (any more); the answer's own failure
   */
  fetch(token: string, maxItems: number): Fetched {
    const { id, answer, from } = this.#find(token);
    const pieces = answer.pieces.slice(from, from + maxItems);
    const to = from + pieces.length;
    if (pieces.length === 0 && typeof answer.state === 'object') throw answer.state.error;
    const complete = answer.state === 'done' && to === answer.pieces.length;
    return { headers: answer.headers, pieces, status: answer.status, next: complete ? undefined : `${id}.${to}` };
  }

  /**
   * @param token as {@link fetch} takes it
   * @returns what the answer is asked from
   * @throws AppError INVALID_REQUEST for a token that names nothing (any more)
   */
  asked(token: string): Asked {
    return this.#find(token).answer.asked;
  }

  /** Ends every answer that is still made, and forgets all. */
  close(reason: AppError): void {
    for (const { abort, timer } of this.#answers.values()) {
      clearTimeout(timer);
      abort.abort(reason);
    }
    this.#answers.clear();
    this.#bytes = 0;
  }

  #find(token: string): { id: string; answer: Answer; from: number } {
    const [, id = '', place = '0'] = /^([^.]*)(?:\.(\d{1,15}))?$/.exec(token) ?? [];
    const answer = this.#answers.get(id);
    const from = Number(place);
    if (answer !== undefined && from <= answer.pieces.length) return { id, answer, from };
    throw new AppError('INVALID_REQUEST', `Invalid x-starting-token: ${token.slice(0, 128)}`, {
      violations: [
        { field: 'x-starting-token', description: 'names no answer; it was kept too long ago, or by another process' },
      ],
    });
  }

  #push(answer: Answer, piece: string | Uint8Array): void {
    if (piece.length === 0 || answer.state !== 'running' || answer.abort.signal.aborted) return;
    answer.pieces.push(piece);
    const bytes = Buffer.byteLength(piece);
    answer.bytes += bytes;
    this.#bytes += bytes;
    while (this.#bytes > this.#limits.maxBytes) {
      if (this.#evict()) continue;
      const message = `the answers to fetch later exceed ${this.#limits.maxBytes} bytes; fetch them sooner`;
      answer.abort.abort(new AppError('SLOW_CONSUMER', message));
      return;
    }
  }

  #end(id: string, answer: Answer, state: Answer['state']): void {
    const { reason } = answer.abort.signal as { reason: unknown };
    answer.state = reason instanceof AppError ? { error: reason } : state;
    if (!this.#answers.has(id)) return;
    answer.timer = setTimeout(() => this.#forget(id), this.#limits.keepMs).unref();
  }

  /** Forgets the oldest answer that is complete. @returns false where there is none */
  #evict(): boolean {
    for (const [id, { state }] of this.#answers) {
      if (state === 'running') continue;
      this.#forget(id);
      return true;
    }
    return false;
  }

  #forget(id: string): void {
    const answer = this.#answers.get(id);
    if (answer === undefined) return;
    clearTimeout(answer.timer);
    this.#answers.delete(id);
    this.#bytes -= answer.bytes;
  }
}
