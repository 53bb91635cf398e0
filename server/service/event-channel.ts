/** Between the engine, which never waits, and one consumer of a stream, who may be slow. */
import { AppError } from '../errors.js';
import type { PredictEvent, PredictResult, TokenInfo } from './types.js';

/** A row of a request. */
export interface RowPlace {
  readonly index: number;
  readonly sample: number;
}

interface WaitingDelta extends RowPlace {
  readonly type: 'delta';
  text: string;
  readonly tokens: TokenInfo[];
  promptTokens?: readonly TokenInfo[] | undefined;
}

interface Consumer {
  resolve(step: IteratorResult<PredictEvent>): void;
  reject(error: AppError): void;
}

/**
 * A queue of events for one consumer. Deltas of a row that wait become one; when more than `maxTokens` tokens wait,
 * the channel fails with SLOW_CONSUMER. Whoever leaves the iteration early is told to `onLeave`.
 */
export class EventChannel implements AsyncIterableIterator<PredictEvent> {
  #queue: (WaitingDelta | Extract<PredictEvent, { type: 'final' }>)[] = [];
  readonly #openDeltas = new Map<string, WaitingDelta>();
  #waitingTokens = 0;
  readonly #consumers: Consumer[] = [];
  #state: 'open' | 'closed' | { readonly error: AppError } = 'open';
  readonly #maxTokens: number;
  readonly #onLeave: (reason: AppError) => void;

  /** @param onLeave called once, when the consumer leaves or is too slow; not after `close` or `fail` */
  constructor(maxTokens: number, onLeave: (reason: AppError) => void) {
    this.#maxTokens = maxTokens;
    this.#onLeave = onLeave;
  }

  /**
   * Adds text to a row's answer.
   * @param promptTokens tokens of the prompt, with the text that repeats it
   */
  delta(place: RowPlace, text: string, tokens: readonly TokenInfo[], promptTokens?: readonly TokenInfo[]): void {
    if (this.#state !== 'open') return;
    const { index, sample } = place;
    const open = this.#openDeltas.get(keyOf(place));
    if (open !== undefined) {
      open.text += text;
      open.tokens.push(...tokens);
      open.promptTokens ??= promptTokens;
    } else {
      const delta: WaitingDelta = { type: 'delta', index, sample, text, tokens: [...tokens], promptTokens };
      this.#openDeltas.set(keyOf(place), delta);
      this.#queue.push(delta);
    }
    this.#waitingTokens += tokens.length;
    this.#deliver();
    if (this.#waitingTokens > this.#maxTokens) {
      const error = new AppError(
        'SLOW_CONSUMER',
        `more than ${this.#maxTokens} tokens waited to be read; read the stream faster, or ask for less at once`,
      );
      this.fail(error);
      this.#onLeave(error);
    }
  }

  /** Ends a row. */
  final(result: PredictResult): void {
    if (this.#state !== 'open') return;
    this.#queue.push({ type: 'final', index: result.index, sample: result.sample, result });
    this.#deliver();
  }

  /** No event follows; what waits is still delivered. */
  close(): void {
    if (this.#state !== 'open') return;
    this.#state = 'closed';
    this.#deliver();
  }

  /** Ends the stream with an error; what waits is dropped. */
  fail(error: AppError): void {
    if (this.#state !== 'open') return;
    this.#state = { error };
    this.#queue = [];
    this.#deliver();
  }

  next(): Promise<IteratorResult<PredictEvent>> {
    return new Promise((resolve, reject) => {
      this.#consumers.push({ resolve, reject });
      this.#deliver();
    });
  }

  return(): Promise<IteratorResult<PredictEvent>> {
    const left = this.#state === 'open';
    this.#state = 'closed';
    this.#queue = [];
    this.#deliver();
    if (left) this.#onLeave(new AppError('CANCELED', 'the reader left the stream'));
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<PredictEvent> {
    return this;
  }

  #deliver(): void {
    while (this.#consumers.length > 0) {
      const event = this.#queue.shift();
      if (event !== undefined) {
        if (event.type === 'delta') {
          this.#openDeltas.delete(keyOf(event));
          this.#waitingTokens -= event.tokens.length;
        }
        this.#consumers.shift()!.resolve({ done: false, value: event });
      } else if (this.#state === 'open') return;
      else if (this.#state === 'closed') this.#consumers.shift()!.resolve({ done: true, value: undefined });
      else {
        this.#consumers.shift()!.reject(this.#state.error);
        // The error is told once; after it the stream is over, as with any iterator that threw.
        this.#state = 'closed';
      }
    }
  }
}

function keyOf({ index, sample }: RowPlace): string {
  return `${index}/${sample}`;
}
