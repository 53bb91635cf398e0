/**
 * The two other bodies that DJL Serving's inference routes take: `messages` (chat) and `prompt` (completions). Only
 * what its contract names; errors stay in DJL's form on these routes.
 */
import type { ChatMessage, GenerationParameters, Prompt } from '../service/types.js';
import { isObject } from './body.js';
import { type Ask, adapterPlace } from './dialect.js';
import {
  biasField,
  booleanField,
  integerField,
  invalidField,
  kindOf,
  numberField,
  textField,
  textsField,
  tokenIdsField,
} from './fields.js';
import { answerJson, type OpenAiKind } from './openai-answer.js';
import { OpenAiStream } from './openai-stream.js';
import { promptPlace, readPrompts } from './prompts.js';

/** `max_tokens` of completions where the body has none. */
const DEFAULT_COMPLETION_TOKENS = 16;

/** Reads a body that has `messages`. */
export function readChat(body: Record<string, unknown>): Ask {
  const messages = readMessages(body.messages);
  const fields = new Fields(body, ['messages', 'adapters', 'model', 'user'], unreadOf(body.messages));
  const template = fields.take(textField, 'chat_template');
  const prompt: Prompt = { kind: 'chat', messages, ...(template !== undefined && { template }) };
  const maxTokens = fields.takeLimit('max_tokens', 'max_completion_tokens');
  const wantsLogprobs = fields.take(booleanField, 'logprobs') ?? false;
  const top = fields.take(integerField, 'top_logprobs') ?? 0;
  return fields.ask([prompt], false, 'chat', false, {
    // A chat without a bound ends where the model ends it, or the context.
    maxNewTokens: maxTokens ?? Number.POSITIVE_INFINITY,
    ...(wantsLogprobs ? { logprobs: top } : {}),
  });
}

/** Reads a body that has `prompt`. */
export function readCompletion(body: Record<string, unknown>): Ask {
  const { prompts, isList } = readPrompts(body.prompt, 'prompt');
  const fields = new Fields(body, ['prompt', 'adapters', 'model', 'user']);
  const logprobs = fields.take(integerField, 'logprobs');
  const echo = fields.take(booleanField, 'echo') ?? false;
  return fields.ask(prompts, isList, 'completion', echo, {
    maxNewTokens: fields.takeLimit('max_tokens') ?? DEFAULT_COMPLETION_TOKENS,
    returnFullText: echo,
    bestOf: fields.take(integerField, 'best_of'),
    logprobs,
    ...(echo && logprobs !== undefined ? { promptLogprobs: logprobs } : {}),
  });
}

/**
 * How a body calls a field that the service names.
 * @param limit its field that bounds the answer
 */
function nameOf(field: string, kind: OpenAiKind, isList: boolean, limit: string): string {
  const [, parameter] = /^parameters\.(.*)$/.exec(field) ?? [];
  if (parameter === 'max_new_tokens') return limit;
  if (parameter === 'truncate') return 'truncate_prompt_tokens';
  if (parameter === 'logprobs' && kind === 'chat') return 'top_logprobs';
  if (parameter !== undefined) return parameter;
  const [messages, rest = ''] = /^inputs\[0\](?:\.chat\.messages(.*))?$/.exec(field) ?? [];
  const place = kind === 'chat' ? messages && `messages${rest}` : promptPlace(field, 'prompt', isList);
  return place ?? adapterPlace(field, isList) ?? field;
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

/** Names of what nothing reads of messages and their parts, each once; null is nothing. Of hundred thousands it holds everybody up. */
function unreadOf(messages: unknown): readonly string[] {
  const names = new Set<string>();
  for (const message of Array.isArray(messages) ? messages : []) {
    if (!isObject(message)) continue;
    addUnread(names, message, 'role', 'content');
    if (!Array.isArray(message.content)) continue;
    for (const part of message.content) if (isObject(part)) addUnread(names, part, 'type', 'text');
  }
  return [...names];
}

function addUnread(names: Set<string>, fields: Record<string, unknown>, ...read: readonly string[]): void {
  for (const key of Object.keys(fields)) if (!read.includes(key) && fields[key] != null) names.add(key);
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
  readonly #unread: readonly string[];
  /** Name of the field that bounds the answer. */
  #limit = 'max_tokens';

  /** @param unread names inside of known fields that nothing reads */
  constructor(body: Record<string, unknown>, known: readonly string[], unread: readonly string[] = []) {
    this.#unread = unread;
    this.#left = new Map(Object.entries(body).filter(([key]) => !known.includes(key)));
  }

  take<T>(read: (value: unknown, field: string) => T | undefined, name: string): T | undefined {
    const value = read(this.#left.get(name), name);
    this.#left.delete(name);
    return value;
  }

  /** The most tokens of an answer: the first of these fields that is there. */
  takeLimit(...names: readonly string[]): number | undefined {
    for (const name of names) {
      const value = this.take(integerField, name);
      if (value === undefined) continue;
      this.#limit = name;
      return value;
    }
    return undefined;
  }

  /** Whether a stream tells the tokens that it took; the other options of streams stay, under their own names. */
  takeUsage(): boolean {
    const options = this.take((value) => value ?? undefined, 'stream_options');
    if (options === undefined) return false;
    if (!isObject(options)) throw invalidField('stream_options', `must be an object, not ${kindOf(options)}`);
    for (const [name, value] of Object.entries(options)) this.#left.set(`stream_options.${name}`, value);
    return this.take(booleanField, 'stream_options.include_usage') ?? false;
  }

  /** Reads what both schemas share and makes the request of it. */
  ask(
    prompts: readonly Prompt[],
    isList: boolean,
    kind: OpenAiKind,
    echo: boolean,
    own: Partial<GenerationParameters>,
  ): Ask {
    const n = this.take(integerField, 'n') ?? 1;
    const promptLogprobs = this.take(integerField, 'prompt_logprobs');
    const shared = {
      // Greedy unless a temperature is given, like the other bodies of these routes.
      temperature: this.take(numberField, 'temperature') ?? 0,
      topK: this.take(integerField, 'top_k'),
      topP: this.take(numberField, 'top_p'),
      minP: this.take(numberField, 'min_p'),
      typicalP: this.take(numberField, 'typical_p'),
      logitBias: this.take(biasField, 'logit_bias'),
      truncate: this.take(integerField, 'truncate_prompt_tokens'),
      n,
      promptLogprobs,
      repetitionPenalty: this.take(numberField, 'repetition_penalty'),
      presencePenalty: this.take(numberField, 'presence_penalty'),
      frequencyPenalty: this.take(numberField, 'frequency_penalty'),
      seed: this.take(integerField, 'seed'),
      stop: this.take(textsField, 'stop'),
      stopTokenIds: this.take(tokenIdsField, 'stop_token_ids'),
      ignoreEos: this.take(booleanField, 'ignore_eos'),
    };
    const stream = this.take(booleanField, 'stream') ?? false;
    const usage = this.takeUsage();
    const given = [...Object.entries(own), ...Object.entries(shared)].filter(([, value]) => value !== undefined);
    // An echoed prompt is part of the text, so its tokens are part of the log-probabilities.
    const listsPrompt = echo && own.logprobs !== undefined;
    const view = { kind, n, listsPrompt, promptLogprobs: promptLogprobs !== undefined, usage };
    return {
      prompts,
      isList,
      parameters: Object.fromEntries(given),
      stream,
      nameOf: (field) => nameOf(field, kind, isList, this.#limit),
      ignored: [...new Set([...this.#left.keys(), ...this.#unread])],
      answer: (results, model) => answerJson(results, view, model),
      renderer: (_sse, model) => new OpenAiStream(view, model),
    };
  }
}
