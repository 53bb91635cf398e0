/** Streams of the chat and completions bodies: server-sent events that end with `[DONE]`. */
import type { PredictEvent, PredictResult } from '../service/types.js';
import type { StreamRenderer } from './dialect.js';
import {
  choiceIndex,
  logprobsJson,
  newId,
  OPENAI_FINISH,
  type OpenAiView,
  promptJson,
  usageJson,
} from './openai-answer.js';

/** Renders chunks; nothing is held, because the end has a chunk of its own. */
export class OpenAiStream implements StreamRenderer {
  readonly contentType = 'text/event-stream; charset=utf-8';
  readonly holding = false;
  readonly #id: string;
  readonly #created = Math.floor(Date.now() / 1000);
  /** Characters that each choice has had, by its index. */
  readonly #lengths = new Map<number, number>();
  /** What ended answers have taken. */
  readonly #taken: Pick<PredictResult, 'sample' | 'usage'>[] = [];

  /** @param model its name in every chunk */
  constructor(
    readonly view: OpenAiView,
    readonly model: string,
  ) {
    this.#id = newId(view.kind);
  }

  event(event: PredictEvent): string {
    const index = choiceIndex(event, this.view.n);
    if (event.type === 'final') {
      const { sample, usage } = event.result;
      if (this.view.usage) this.#taken.push({ sample, usage });
      const prompt = promptJson(event.result, this.view);
      return this.#chunk(index, undefined, null, OPENAI_FINISH[event.result.finishReason], prompt);
    }
    const logprobs = logprobsJson(event.tokens, this.view.kind, {
      text: event.text,
      prompt: this.view.listsPrompt ? event.promptTokens : [],
      offset: this.#lengths.get(index),
    });
    return event.text === '' && logprobs === null ? '' : this.#chunk(index, event.text, logprobs, null);
  }

  flush(): string {
    return '';
  }

  end(): string {
    const usage = this.view.usage ? this.#event([], { usage: usageJson(this.#taken) }) : '';
    return `${usage}data: [DONE]\n\n`;
  }

  /** Without `[DONE]`, which would say that the answer is whole. */
  failure(told: object): string {
    return `data: ${JSON.stringify(told)}\n\n`;
  }

  #chunk(
    index: number,
    text: string | undefined,
    logprobs: object | null,
    finishReason: string | null,
    prompt: object = {},
  ): string {
    const { kind } = this.view;
    const role = this.#lengths.has(index) ? {} : { role: 'assistant' };
    this.#lengths.set(index, (this.#lengths.get(index) ?? 0) + (text ?? '').length);
    const content = text === undefined ? {} : { content: text };
    const choice = kind === 'chat' ? { delta: { ...role, ...content } } : { text: text ?? '' };
    return this.#event(
      [{ index, ...choice, logprobs, finish_reason: finishReason, ...(kind === 'chat' ? {} : prompt) }],
      {
        ...(kind === 'chat' ? prompt : {}),
        ...(this.view.usage ? { usage: null } : {}),
      },
    );
  }

  #event(choices: readonly object[], more: object): string {
    const chunk = {
      id: this.#id,
      object: this.view.kind === 'chat' ? 'chat.completion.chunk' : 'text_completion',
      created: this.#created,
      model: this.model,
      choices,
      ...more,
    };
    return `data: ${JSON.stringify(chunk)}\n\n`;
  }
}
