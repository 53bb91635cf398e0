/** Whole answers of the chat and completions bodies, and the log-probabilities in them. */
import type { FinishReason, PredictResult, TokenInfo } from '../service/types.js';

/** Which of the two bodies. */
export type OpenAiKind = 'chat' | 'completion';

/** Finish reasons in OpenAI's words. */
export const OPENAI_FINISH: Readonly<Record<FinishReason, string>> = {
  eos: 'stop',
  stop: 'stop',
  length: 'length',
  cancelled: 'abort',
};

/** What a body asked for that shapes its answer. */
export interface OpenAiView {
  readonly kind: OpenAiKind;
  /** Answers to each input: choices are numbered through. */
  readonly n: number;
  /** True: the answer begins with the prompt, in the lists of log-probabilities, too. */
  readonly echo: boolean;
  /** True: `prompt_logprobs` was asked for by name. */
  readonly promptLogprobs: boolean;
}

/** Place of an answer among all choices. */
export function choiceIndex({ index, sample }: { readonly index: number; readonly sample: number }, n: number): number {
  return index * n + sample;
}

/** The body of an answer. */
export function answerJson(results: readonly PredictResult[], view: OpenAiView): object {
  const { kind } = view;
  const firsts = results.filter(({ sample }) => sample === 0);
  const promptTokens = firsts.reduce((sum, result) => sum + result.usage.promptTokens, 0);
  const completionTokens = results.reduce((sum, result) => sum + result.usage.completionTokens, 0);
  const cachedTokens = firsts.reduce((sum, result) => sum + result.usage.cachedTokens, 0);
  return {
    id: newId(kind),
    object: kind === 'chat' ? 'chat.completion' : 'text_completion',
    created: Math.floor(Date.now() / 1000),
    model: results[0]?.receipt.model,
    choices: results.map((result) => ({
      index: choiceIndex(result, view.n),
      ...(kind === 'chat' ? { message: { role: 'assistant', content: result.text } } : { text: result.text }),
      logprobs: logprobsJson(result.tokens, kind, view.echo ? (result.promptTokens ?? []) : []),
      finish_reason: OPENAI_FINISH[result.finishReason],
      ...(view.promptLogprobs && kind === 'completion'
        ? { prompt_logprobs: promptJson(result.promptTokens ?? []) }
        : {}),
    })),
    ...(view.promptLogprobs && kind === 'chat' ? { prompt_logprobs: promptJson(results[0]?.promptTokens ?? []) } : {}),
    usage: {
      prompt_tokens: promptTokens,
      completion_tokens: completionTokens,
      total_tokens: promptTokens + completionTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens },
    },
  };
}

/** A new id of an answer. */
export function newId(kind: OpenAiKind): string {
  return `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${crypto.randomUUID()}`;
}

/**
 * Log-probabilities of tokens in the form of the body; null where none were asked for.
 * @param prompt tokens of the prompt that the text begins with
 * @param offset characters before the first token
 */
export function logprobsJson(
  tokens: readonly TokenInfo[],
  kind: OpenAiKind,
  prompt: readonly TokenInfo[] = [],
  offset = 0,
): object | null {
  if (!tokens.some((token) => token.logprob !== undefined)) return null;
  if (kind === 'chat') return { content: tokens.map(chatToken) };
  const all = [...prompt, ...tokens];
  let at = offset;
  return {
    tokens: all.map(({ text }) => text),
    token_logprobs: all.map(({ logprob }) => logprob ?? null),
    top_logprobs: all.map(({ logprob, top = [] }) =>
      logprob === undefined ? null : Object.fromEntries(top.map((other) => [other.text, other.logprob])),
    ),
    text_offset: all.map(({ text, special }) => {
      const start = at;
      // Special tokens are named in the list, but are not part of the text.
      at += special ? 0 : text.length;
      return start;
    }),
  };
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

/** vLLM's form: for each token of the prompt, by id, it and its alternatives; null for the first. */
function promptJson(tokens: readonly TokenInfo[]): (object | null)[] {
  return tokens.map(({ id, text, logprob, top = [] }) => {
    if (logprob === undefined) return null;
    const entries = top.map((other, rank) => [
      other.id,
      { logprob: other.logprob, rank: rank + 1, decoded_token: other.text },
    ]);
    const own = top.some((other) => other.id === id) ? [] : [[id, { logprob, decoded_token: text }]];
    return Object.fromEntries([...own, ...entries]);
  });
}
