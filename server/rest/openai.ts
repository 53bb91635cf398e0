/**
 * The two other bodies that DJL Serving's inference routes take: `messages` (chat) and `prompt` (completions). Only
 * what its contract names; errors stay in DJL's form on these routes.
 */
import { AppError } from '../errors.js';
import type { ChatMessage, GenerationParameters, PredictResult, Prompt } from '../service/types.js';
import { isObject } from './body.js';
import type { Ask } from './dialect.js';
import { booleanField, integerField, invalidField, kindOf, numberField, textsField, tokenIdsField } from './fields.js';
import { OPENAI_FINISH, OpenAiStream } from './openai-stream.js';

/** `max_tokens` of completions where the body has none. */
const DEFAULT_COMPLETION_TOKENS = 16;

/** Reads a body that has `messages`. */
export function readChat(body: Record<string, unknown>): Ask {
  const prompt: Prompt = { kind: 'chat', messages: readMessages(body.messages) };
  const fields = new Fields(body, ['messages', 'adapters', 'model', 'user']);
  const maxTokens = fields.take(integerField, 'max_tokens') ?? fields.take(integerField, 'max_completion_tokens');
  const wantsLogprobs = fields.take(booleanField, 'logprobs') ?? false;
  const top = fields.take(integerField, 'top_logprobs') ?? 0;
  return fields.ask([prompt], false, 'chat', {
    ...(maxTokens === undefined ? {} : { maxNewTokens: maxTokens }),
    ...(wantsLogprobs ? { logprobs: top } : {}),
  });
}

/** Reads a body that has `prompt`. */
export function readCompletion(body: Record<string, unknown>): Ask {
  const texts = textsField(body.prompt, 'prompt');
  if (!texts || texts.length === 0) throw invalidField('prompt', 'must be a text or a list of texts');
  const fields = new Fields(body, ['prompt', 'adapters', 'model', 'user']);
  const prompts = texts.map((text): Prompt => ({ kind: 'text', text }));
  return fields.ask(prompts, Array.isArray(body.prompt), 'completion', {
    maxNewTokens: fields.take(integerField, 'max_tokens') ?? DEFAULT_COMPLETION_TOKENS,
    returnFullText: fields.take(booleanField, 'echo') ?? false,
  });
}

function readMessages(value: unknown): readonly ChatMessage[] {
  if (!Array.isArray(value)) throw invalidField('messages', `must be a list of messages, not ${kindOf(value)}`);
  return value.map((entry: unknown, index) => {
    const field = `messages[${index}]`;
    if (!isObject(entry)) throw invalidField(field, `must be an object with role and content, not ${kindOf(entry)}`);
    if (typeof entry.role !== 'string')
      throw invalidField(`${field}.role`, `must be a text, not ${kindOf(entry.role)}`);
    return { role: entry.role, content: readContent(entry.content, `${field}.content`) };
  });
}

function readContent(value: unknown, field: string): string {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) throw invalidField(field, `must be a text or a list of text parts, not ${kindOf(value)}`);
  return value
    .map((part: unknown, index) => {
      if (isObject(part) && part.type === 'text' && typeof part.text === 'string') return part.text;
      throw invalidField(`${field}[${index}]`, 'must be a text part: {"type": "text", "text": "..."}');
    })
    .join('');
}

/** Takes fields out of a body one by one; what is left over is told as ignored. */
class Fields {
  readonly #left: Map<string, unknown>;

  constructor(body: Record<string, unknown>, known: readonly string[]) {
    this.#left = new Map(Object.entries(body).filter(([key]) => !known.includes(key)));
  }

  take<T>(read: (value: unknown, field: string) => T | undefined, name: string): T | undefined {
    const value = read(this.#left.get(name), name);
    this.#left.delete(name);
    return value;
  }

  /** Reads what both schemas share and makes the request of it. */
  ask(
    prompts: readonly Prompt[],
    isList: boolean,
    kind: 'chat' | 'completion',
    own: Partial<GenerationParameters>,
  ): Ask {
    const n = this.take(integerField, 'n');
    if (n !== undefined && n !== 1)
      throw new AppError('UNIMPLEMENTED', 'n must be 1: one answer is made for each input');
    const shared = {
      // Greedy unless a temperature is given, like the other bodies of these routes.
      temperature: this.take(numberField, 'temperature') ?? 0,
      topK: this.take(integerField, 'top_k'),
      topP: this.take(numberField, 'top_p'),
      minP: this.take(numberField, 'min_p'),
      repetitionPenalty: this.take(numberField, 'repetition_penalty'),
      presencePenalty: this.take(numberField, 'presence_penalty'),
      frequencyPenalty: this.take(numberField, 'frequency_penalty'),
      seed: this.take(integerField, 'seed'),
      stop: this.take(textsField, 'stop'),
      stopTokenIds: this.take(tokenIdsField, 'stop_token_ids'),
      ignoreEos: this.take(booleanField, 'ignore_eos'),
    };
    const stream = this.take(booleanField, 'stream') ?? false;
    const given = Object.entries(shared).filter(([, value]) => value !== undefined);
    return {
      prompts,
      isList,
      parameters: { ...Object.fromEntries(given), ...own },
      stream,
      ignored: [...this.#left.keys()],
      answer: (results) => answerJson(results, kind),
      renderer: () => new OpenAiStream(kind),
    };
  }
}

function answerJson(results: readonly PredictResult[], kind: 'chat' | 'completion'): object {
  const promptTokens = results.reduce((sum, result) => sum + result.usage.promptTokens, 0);
  const completionTokens = results.reduce((sum, result) => sum + result.usage.completionTokens, 0);
  const cachedTokens = results.reduce((sum, result) => sum + result.usage.cachedTokens, 0);
  return {
    id: `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${crypto.randomUUID()}`,
    object: kind === 'chat' ? 'chat.completion' : 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: results[0]?.receipt.model,
    choices: results.map((result) => ({
      index: result.index,
      ...(kind === 'chat' ? { message: { role: 'assistant', content: result.text } } : { text: result.text }),
      logprobs: kind === 'chat' ? chatLogprobs(result) : null,
      finish_reason: OPENAI_FINISH[result.finishReason],
    })),
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens },
    },
  };
}

function chatLogprobs(result: PredictResult): object | null {
  if (!result.tokens.some((token) => token.logprob !== undefined)) return null;
  return {
    content: result.tokens.map((token) => ({
      token: token.text,
      logprob: token.logprob,
      top_logprobs: (token.top ?? []).map(({ text, logprob }) => ({ token: text, logprob })),
    })),
  };
}
