/** From a prompt to the ids that a model reads, within its context. */
import { AppError } from '../errors.js';
import { encodeJob } from './encode-job.js';
import type { EncodedText, EncodeJob } from './encode-messages.js';
import type { LoadedModel } from './ports.js';
import { refuse } from './request-violations.js';
import type { ChatMessage, GenerationParameters, Prompt } from './types.js';

/** A prompt as the model reads it. */
export interface ReadPrompt {
  readonly promptIds: readonly number[];
  /** What the answer begins with when the full text is asked for, else ''. */
  readonly promptText: string;
}

/**
 * A prompt's ids, as many of them as are used, and what the answer begins with.
 * @throws AppError INVALID_REQUEST, CHAT_TEMPLATE_FAILED, CONTEXT_LENGTH_EXCEEDED
 */
export async function readPrompt(
  prompt: Prompt,
  parameters: GenerationParameters,
  index: number,
  model: LoadedModel,
  signal?: AbortSignal,
): Promise<ReadPrompt> {
  const { ids: promptIds, count, whole } = await encode(prompt, parameters, model, signal);
  if (!whole) throw farTooLong(count, model.info.contextLength, index);
  if (promptIds.length === 0) refuse([{ field: `inputs[${index}]`, description: 'the prompt holds no tokens' }]);
  const { maxNewTokens } = parameters;
  // As many as there are is one at least.
  checkLength(promptIds.length, Number.isFinite(maxNewTokens) ? maxNewTokens : 1, model.info.contextLength, index);
  const cut = promptIds.length < count;
  const promptText = parameters.returnFullText ? promptTextOf(prompt, promptIds, cut, model) : '';
  return { promptIds, promptText };
}

/** Longer texts are encoded in a thread of their own, in characters: here they would hold everybody up noticeably. */
const LONG_TEXT = 32_768;
/** What rendering a message takes, as the encoding of so many characters. */
const MESSAGE_CHARS = 64;

/** The ids of a prompt that are used. */
async function encode(
  prompt: Prompt,
  { truncate: last }: GenerationParameters,
  model: LoadedModel,
  signal: AbortSignal | undefined,
): Promise<EncodedText> {
  if (prompt.kind === 'tokens') {
    const { tokenIds: ids } = prompt;
    return { ids: last === undefined ? ids : ids.slice(-last), count: ids.length, whole: true };
  }
  // A template writes the special tokens itself; and the last tokens of a prompt are known once all of it is read.
  const addSpecialTokens = prompt.kind === 'text';
  const most = last === undefined ? model.info.contextLength : Number.POSITIVE_INFINITY;
  const jobOf = (source: EncodeJob['source']): EncodeJob => ({
    ...{ source, addSpecialTokens, most, last, added: [], over: [] },
  });
  const { encodeAside = async (job) => encodeJob(model, job) } = model;
  if (prompt.kind === 'chat') {
    const { messages, template } = prompt;
    if (isLong(messages)) return encodeAside(jobOf({ messages, template }), signal);
  }
  const text = prompt.kind === 'text' ? prompt.text : model.chatTemplate.render(prompt.messages, true, prompt.template);
  // A template may make much of little.
  return text.length > LONG_TEXT ? encodeAside(jobOf(text), signal) : encodeJob(model, jobOf(text));
}

/** True for a chat that takes too long to be rendered here. */
function isLong(messages: readonly ChatMessage[]): boolean {
  let size = messages.length * MESSAGE_CHARS;
  for (const { role, content } of messages) {
    if (size > LONG_TEXT) break;
    size += role.length + content.length;
  }
  return size > LONG_TEXT;
}

/**
 * How many tokens an answer may have at most. What the memory can never hold is the engine's to refuse.
 * @param promptTokens of a prompt that {@link readPrompt} has read
 */
export function newTokensOf(
  { maxNewTokens }: Pick<GenerationParameters, 'maxNewTokens'>,
  promptTokens: number,
  { info, engine }: Pick<LoadedModel, 'info' | 'engine'>,
): number {
  if (Number.isFinite(maxNewTokens)) return maxNewTokens;
  const { maxRowTokens = Number.POSITIVE_INFINITY } = engine;
  return Math.max(1, Math.min(info.contextLength, maxRowTokens) - promptTokens);
}

function promptTextOf(prompt: Prompt, promptIds: readonly number[], cut: boolean, { tokenizer }: LoadedModel): string {
  return prompt.kind === 'text' && !cut ? prompt.text : tokenizer.decode(promptIds, true);
}

function checkLength(promptTokens: number, maxNewTokens: number, contextLength: number, index: number): void {
  if (promptTokens + maxNewTokens <= contextLength) return;
  const room = contextLength - promptTokens;
  const advice =
    room > 0 ? `at most ${room} new tokens fit` : 'the prompt alone leaves no room (truncate keeps its last tokens)';
  const message =
    `inputs[${index}]: ${promptTokens} prompt tokens and ${maxNewTokens} new tokens are ` +
    `${promptTokens + maxNewTokens}, but the context holds ${contextLength}; ${advice}`;
  throw exceeded(message, index, {
    prompt_tokens: String(promptTokens),
    max_new_tokens: String(maxNewTokens),
    context_length: String(contextLength),
  });
}

/** @param atLeast tokens of the prompt, which was not read to its end */
function farTooLong(atLeast: number, contextLength: number, index: number): AppError {
  const message =
    `inputs[${index}]: the prompt has more than ${atLeast} tokens, but the context holds ${contextLength} ` +
    '(truncate keeps its last tokens)';
  return exceeded(message, index, { context_length: String(contextLength) });
}

function exceeded(message: string, index: number, facts: Readonly<Record<string, string>>): AppError {
  return new AppError('CONTEXT_LENGTH_EXCEEDED', message, {
    metadata: { input: String(index), ...facts },
    violations: [{ field: `inputs[${index}]`, description: message }],
  });
}
