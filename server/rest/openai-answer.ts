/** Whole answers of the chat and completions bodies, and the log-probabilities in them. */
import type { FinishReason, PredictResult, TokenInfo } from '../service/types.js';

/** Which of the two bodies. */
export type OpenAiKind = 'chat' | 'completion';

/** Finish reasons in OpenAI's words. */
export const OPENAI_FINISH: Readonly<Record<FinishReason, string>> = {
  eos: 'stop',
  stop: 'stop',
  length: 'length',
};

/** What a body asked for that shapes its answer. */
export interface OpenAiView {
  readonly kind: OpenAiKind;
  /** Answers to each input: choices are numbered through. */
  readonly n: number;
  /** True: the lists of log-probabilities begin with the prompt, as the text does. */
  readonly listsPrompt: boolean;
  /** True: `prompt_logprobs` was asked for by name. */
  readonly promptLogprobs: boolean;
  /** True: a stream tells the tokens that it took. */
  readonly usage: boolean;
}

/** Place of an answer among all choices. */
export function choiceIndex({ index, sample }: { readonly index: number; readonly sample: number }, n: number): number {
  return index * n + sample;
}

/** The body of an answer. @param model its name there */
export function answerJson(results: readonly PredictResult[], view: OpenAiView, model: string): object {
  const { kind } = view;
  return {
    id: newId(kind),
    object: kind === 'chat' ? 'chat.completion' : 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model,
    choices: results.map((result) => ({
      index: choiceIndex(result, view.n),
      ...(kind === 'chat' ? { message: { role: 'assistant', content: result.text } } : { text: result.text }),
      logprobs: logprobsJson(result.tokens, kind, {
        text: result.text,
        prompt: view.listsPrompt ? result.promptTokens : [],
      }),
      finish_reason: OPENAI_FINISH[result.finishReason],
      ...(kind === 'completion' ? promptJson(result, view) : {}),
    })),
    ...(kind === 'chat' && results[0] !== undefined ? promptJson(results[0], view) : {}),
    usage: usageJson(results),
  };
}

/** Tokens of all inputs and answers; the samples of an input share its prompt. */
export function usageJson(results: readonly Pick<PredictResult, 'sample' | 'usage'>[]): object {
  const firsts = results.filter(({ sample }) => sample === 0);
  const promptTokens = firsts.reduce((sum, { usage }) => sum + usage.promptTokens, 0);
  const completionTokens = results.reduce((sum, { usage }) => sum + usage.completionTokens, 0);
  const cachedTokens = firsts.reduce((sum, { usage }) => sum + usage.cachedTokens, 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
  };
}

/** A new id of an answer. */
export function newId(kind: OpenAiKind): string {
  return `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${crypto.randomUUID()}`;
}

/** Where the tokens of a list of log-probabilities are. */
export interface TokenPlaces {
  /** The text that the tokens of the prompt and the generated ones make. */
  readonly text: string;
  /** Tokens of the prompt that the text begins with. */
  readonly prompt?: readonly TokenInfo[] | undefined;
  /** Characters of the answer before the text. */
  readonly offset?: number | undefined;
}

/** Log-probabilities of tokens in the form of the body; null where none were asked for. */
export function logprobsJson(
  tokens: readonly TokenInfo[],
  kind: OpenAiKind,
  { text, prompt = [], offset = 0 }: TokenPlaces,
): object | null {
  if (prompt.length === 0 && !tokens.some((token) => token.logprob !== undefined)) return null;
  if (kind === 'chat') return { content: tokens.map(chatToken) };
  const all = [...prompt, ...tokens];
  return {
    tokens: all.map((token) => token.text),
    token_logprobs: all.map(({ logprob }) => logprob ?? null),
    top_logprobs: all.map(({ logprob, top = [] }) =>
      logprob === undefined ? null : Object.fromEntries(top.map((other) => [other.text, other.logprob])),
    ),
    text_offset: offsets(all, text).map((at) => offset + at),
  };
}

/**
 * Where each token begins in the text that they end. Special tokens are named in the list, but are part of the text only
 * where the prompt itself spells them; what the tokenizer adds to a prompt stands before those, so the search begins at the end.
 */
function offsets(tokens: readonly TokenInfo[], text: string): number[] {
  let at = text.length;
  return tokens
    .toReversed()
    .map((token) => {
      if (!token.special || text.endsWith(token.text, at)) at = Math.max(0, at - token.text.length);
      return at;
    })
    .toReversed();
}

function chatToken({ text, logprob, top = [] }: TokenInfo): object {
  const bytes = (token: string): number[] => [...Buffer.from(token)];
  return {
    token: text,
    logprob,
    bytes: bytes(text),
    top_logprobs: top.map((other) => ({ token: other.text, logprob: other.logprob, bytes: bytes(other.text) })),
  };
}

/**
 * `prompt_logprobs`, where they were asked for, in vLLM's form: for each token of the prompt, by id, it and its
 * alternatives; null for the first.
 */
export function promptJson({ promptTokens = [] }: PredictResult, view: OpenAiView): object {
  if (!view.promptLogprobs) return {};
  const tokens = promptTokens.map(({ id, text, logprob, top = [] }) => {
    if (logprob === undefined) return null;
    const entries = top.map((other, rank) => [
      other.id,
      { logprob: other.logprob, rank: rank + 1, decoded_token: other.text },
    ]);
    const own = top.some((other) => other.id === id) ? [] : [[id, { logprob, decoded_token: text }]];
    return Object.fromEntries([...own, ...entries]) as object;
  });
  return { prompt_logprobs: tokens };
}
