/** Streams of the chat and completions bodies: server-sent events that end with `[DONE]`. */
import type { AppError } from '../errors.js';
import type { FinishReason, PredictEvent } from '../service/types.js';
import type { StreamRenderer } from './dialect.js';

/** Finish reasons in OpenAI's words. */
export const OPENAI_FINISH: Readonly<Record<FinishReason, string>> = {
  eos: 'stop',
  stop: 'stop',
  length: 'length',
  cancelled: 'abort',
};

/** Renders chunks; nothing is held, because the end has a chunk of its own. */
export class OpenAiStream implements StreamRenderer {
  readonly contentType = 'text/event-stream; charset=utf-8';
  readonly holding = false;
  readonly #id: string;
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #begun = new Set<number>();

  constructor(readonly kind: 'chat' | 'completion') {
    this.#id = `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${crypto.randomUUID()}`;
  }

  event(event: PredictEvent): string {
    if (event.type === 'delta') return event.text === '' ? '' : this.#chunk(event.index, event.text, null);
    return this.#chunk(event.index, undefined, OPENAI_FINISH[event.result.finishReason], event.result.receipt.model);
  }

  flush(): string {
    return '';
  }

  end(): string {
    return 'data: [DONE]\n\n';
  }

  failure(error: AppError): string {
    return `data: ${JSON.stringify({ code: error.spec.http, error: error.message, reason: error.reason })}\n\n`;
  }

  #chunk(index: number, text: string | undefined, finishReason: string | null, model?: string): string {
    const role = this.#begun.has(index) ? {} : { role: 'assistant' };
    this.#begun.add(index);
    const content = text === undefined ? {} : { content: text };
    const choice = this.kind === 'chat' ? { delta: { ...role, ...content } } : { text: text ?? '' };
    const chunk = {
      id: this.#id,
      object: this.kind === 'chat' ? 'chat.completion.chunk' : 'text_completion',
      created: this.#created,
      ...(model === undefined ? {} : { model }),
      choices: [{ index, ...choice, logprobs: null, finish_reason: finishReason }],
    };
    return `data: ${JSON.stringify(chunk)}\n\n`;
  }
}
