/** The handler's end of generations that the main thread runs for it. */
import type { PredictParams, PredictResult, StreamEvent } from '../../sdk/types.js';
import type { FromHandler, ToHandler } from './messages.js';

type Answer = Extract<ToHandler, { type: 'generated' | 'step' | 'refused' }>;

/** Why a generation failed: reason and status are those of the server's error table. */
class GenerationError extends Error {
  readonly reason: string;
  readonly code: number;

  constructor({ message, reason, code }: Extract<ToHandler, { type: 'refused' }>) {
    super(message);
    this.name = 'GenerationError';
    this.reason = reason;
    this.code = code;
  }
}

/** Numbers generations and gives each its answers. */
export class Generations {
  readonly #send: (message: FromHandler) => void;
  readonly #waiting = new Map<number, { resolve(answer: Answer): void; reject(error: unknown): void }>();
  #next = 1;

  constructor(send: (message: FromHandler) => void) {
    this.#send = send;
  }

  /** @param call the call that asks; its generations end with it */
  whole(call: number, params: PredictParams, signal: AbortSignal): Promise<PredictResult[]> {
    const results = this.#whole(call, params, signal);
    // Whoever awaits it is told. Nobody may yet, or ever: as an unhandled rejection it would end the thread, and with it
    // the calls of others.
    results.catch(() => {});
    return results;
  }

  async #whole(call: number, params: PredictParams, signal: AbortSignal): Promise<PredictResult[]> {
    const generation = this.#next++;
    const answer = await this.#ask(generation, signal, { type: 'generate', call, generation, params, stream: false });
    return [...(answer as Extract<ToHandler, { type: 'generated' }>).results];
  }

  async *streamed(call: number, params: PredictParams, signal: AbortSignal): AsyncGenerator<StreamEvent> {
    const generation = this.#next++;
    let over = false;
    this.#send({ type: 'generate', call, generation, params, stream: true });
    try {
      for (;;) {
        const answer = await this.#ask(generation, signal, { type: 'pull', generation });
        const { event } = answer as Extract<ToHandler, { type: 'step' }>;
        over = event === undefined;
        if (event === undefined) return;
        yield event;
      }
    } catch (thrown) {
      over = thrown instanceof GenerationError;
      throw thrown;
    } finally {
      if (!over) this.#send({ type: 'leave', generation });
    }
  }

  /** Takes what the main thread answers. */
  receive(answer: Answer): void {
    const waiting = this.#waiting.get(answer.generation);
    this.#waiting.delete(answer.generation);
    if (answer.type === 'refused') waiting?.reject(new GenerationError(answer));
    else waiting?.resolve(answer);
  }

  async #ask(generation: number, signal: AbortSignal, message: FromHandler): Promise<Answer> {
    signal.throwIfAborted();
    let onAbort = (): void => {};
    try {
      return await new Promise<Answer>((resolve, reject) => {
        onAbort = () => reject(signal.reason);
        signal.addEventListener('abort', onAbort, { once: true });
        this.#waiting.set(generation, { resolve, reject });
        this.#send(message);
      });
    } finally {
      this.#waiting.delete(generation);
      signal.removeEventListener('abort', onAbort);
    }
  }
}
