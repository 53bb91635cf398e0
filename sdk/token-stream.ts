/// <reference lib="esnext.disposable" preserve="true" />
import { AbortedError, type LoramuxError, toLoramuxError } from './errors.js';
import type { RunningCall } from './running-calls.js';
import { tee } from './tee.js';
import type { PredictResult, StreamEvent } from './types.js';

/** Opens the stream and gives its iterator once the first event is there, or was refused. */
export type OpenStream = (
  signal: AbortSignal,
  onRequestId: (id: string) => void,
) => Promise<AsyncIterator<StreamEvent>>;

/**
 * The events of a running request. The request starts when the stream is created; leaving the iteration in any way
 * (`break`, `return`, an exception), {@link abort}, or the caller's signal cancels it on the server.
 *
 * The events can be iterated once; {@link tee} gives two iterations.
 */
export class TokenStream implements AsyncIterable<StreamEvent>, AsyncDisposable {
  readonly #call: RunningCall;
  readonly #source: Promise<AsyncIterator<StreamEvent>>;
  /** Place of each input's first answer among all answers. */
  readonly #firsts: readonly number[];
  readonly #answerCount: number;
  readonly #results: PredictResult[] = [];
  readonly #partial: string[] = [];
  #consumed = false;
  #done = false;
  #error: LoramuxError | undefined;
  #requestId: string | undefined;

  /** Used by the client; `answers` has the number of answers to each input. */
  constructor(open: OpenStream, answers: readonly number[], call: RunningCall) {
    this.#call = call;
    this.#firsts = answers.map((_, input) => answers.slice(0, input).reduce((sum, n) => sum + n, 0));
    this.#answerCount = answers.reduce((sum, n) => sum + n, 0);
    this.#source = open(call.signal, (id) => {
      this.#requestId = id;
    });
    this.#source.catch(() => {}); // reported to whoever reads, and nobody has to
    call.signal.addEventListener('abort', () => this.#drain().catch(() => {}), { once: true });
    if (call.signal.aborted) this.#drain().catch(() => {});
  }

  /** Id of the request in the log of the server; undefined until the server has answered. */
  get requestId(): string | undefined {
    return this.#requestId;
  }

  /** Text of an answer as far as it was read; also after an error. */
  partialText(inputIndex = 0, sampleIndex = 0): string {
    return this.#partial[this.#place({ inputIndex, sampleIndex })] ?? '';
  }

  /** Cancels the request. */
  abort(reason?: unknown): void {
    this.#call.cancel(reason);
  }

  /** The events, once. */
  [Symbol.asyncIterator](): AsyncGenerator<StreamEvent, void, undefined> {
    if (this.#consumed) throw new TypeError('this stream was consumed already; tee() gives two iterations');
    this.#consumed = true;
    return this.#iterate();
  }

  /** Texts of the only answer as they come. Throws where there are several: iterate the events instead. */
  text(): AsyncGenerator<string, void, undefined> {
    this.#assertOneAnswer('text()');
    return texts(this[Symbol.asyncIterator]());
  }

  /** Two iterations over the same events; the request is cancelled when both are left. */
  tee(): [AsyncIterableIterator<StreamEvent>, AsyncIterableIterator<StreamEvent>] {
    return tee(this[Symbol.asyncIterator]());
  }

  /** Reads what was not read yet, and gives the only result. Throws for several: {@link finalResults}. */
  async finalResult(): Promise<PredictResult> {
    this.#assertOneAnswer('finalResult()');
    return (await this.finalResults())[0]!;
  }

  /** Reads what was not read yet, and gives all results in the order of the inputs and their answers. */
  async finalResults(): Promise<PredictResult[]> {
    this.#consumed = true;
    while ((await this.#next()) !== undefined);
    return [...this.#results];
  }

  /** The whole text of the only answer. */
  async finalText(): Promise<string> {
    return (await this.finalResult()).text;
  }

  /** Cancels what still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#leave();
  }

  #assertOneAnswer(method: string): void {
    if (this.#answerCount !== 1) {
      throw new TypeError(`${method} is for requests with one answer; this one has ${this.#answerCount}`);
    }
  }

  #place({ inputIndex, sampleIndex }: { inputIndex: number; sampleIndex: number }): number {
    return (this.#firsts[inputIndex] ?? inputIndex) + sampleIndex;
  }

  #leave(): void {
    if (this.#done) return;
    this.#call.cancel();
    this.#end(
      new AbortedError('the stream was left before its end', {
        reason: 'CANCELED',
        code: 'canceled',
        requestId: this.#requestId,
      }),
    );
  }

  /** Connect frees a call (its deadline's timer keeps Node alive) only when its end is read. */
  async #drain(): Promise<void> {
    const source = await this.#source;
    while (!(await source.next()).done);
  }

  #end(error?: LoramuxError): void {
    this.#done = true;
    this.#error = error;
    this.#call.end();
  }

  async #next(): Promise<StreamEvent | undefined> {
    if (this.#error !== undefined) throw this.#error;
    if (this.#done) return undefined;
    try {
      const result = await (await this.#source).next();
      if (result.done) {
        // After an abort the end may be read elsewhere first; it is not the end of the answer.
        const complete = Object.keys(this.#results).length === this.#answerCount;
        if (this.#call.signal.aborted && !complete) throw this.#call.signal.reason;
        this.#end();
        return undefined;
      }
      const event = result.value;
      const place = this.#place(event);
      if (event.type === 'final') this.#results[place] = event.result;
      else this.#partial[place] = (this.#partial[place] ?? '') + event.text;
      return event;
    } catch (thrown) {
      const error = this.#error ?? toLoramuxError(thrown, this.#call.signal, this.#requestId);
      this.#end(error);
      throw error;
    }
  }

  async *#iterate(): AsyncGenerator<StreamEvent, void, undefined> {
    try {
      for (let event = await this.#next(); event !== undefined; event = await this.#next()) yield event;
    } finally {
      this.#leave();
    }
  }
}

async function* texts(events: AsyncIterable<StreamEvent>): AsyncGenerator<string, void, undefined> {
  for await (const event of events) {
    if (event.type === 'delta' && event.text !== '') yield event.text;
  }
}
