/** `details` of an answer in DJL Serving's LMI schema. */
import type { FinishReason, PredictResult, Prompt, TokenInfo } from '../service/types.js';
import { receiptJson } from './receipt.js';

const FINISH_REASONS: Readonly<Record<FinishReason, string>> = {
  eos: 'eos_token',
  stop: 'stop_sequence',
  length: 'length',
};

/** A generated token; `log_prob` is the natural logarithm of its probability in the raw distribution. */
export function tokenJson(token: TokenInfo): object {
  return {
    id: token.id,
    text: token.text,
    ...(token.logprob === undefined ? {} : { log_prob: token.logprob }),
    ...(token.special ? { special_token: true } : {}),
  };
}

/** Fields that both the whole answer and the last line of a stream have. */
export function streamDetailsJson(result: PredictResult, prompt: Prompt): object {
  return {
    finish_reason: FINISH_REASONS[result.finishReason],
    generated_tokens: result.usage.completionTokens,
    ...(prompt.kind === 'text' ? { inputs: prompt.text } : {}),
    input_length: result.usage.promptTokens,
    cached_tokens: result.usage.cachedTokens,
    seed: result.seed,
    ...(result.stopString === undefined ? {} : { stop_string: result.stopString }),
    timings: {
      queue_ms: result.timings.queueMs,
      prefill_ms: result.timings.prefillMs,
      decode_ms: result.timings.decodeMs,
    },
    receipt: receiptJson(result.receipt),
    ...(result.promptTokens === undefined ? {} : prefillJson(result.promptTokens)),
  };
}

/** The tokens of the prompt; the first has no log-probability, and says so. */
function prefillJson(tokens: readonly TokenInfo[]): object {
  const alternatives = tokens.map(({ top = [] }) =>
    top.map(({ id, text, logprob }) => ({ id, text, log_prob: logprob })),
  );
  return {
    prefill: tokens.map((token) => ({ log_prob: null, ...tokenJson(token) })),
    ...(alternatives.some(({ length }) => length > 0) ? { prefill_top_tokens: alternatives } : {}),
  };
}

/** A further answer to an input whose details show the first one. */
export function sequenceJson(result: PredictResult): object {
  return {
    generated_text: result.text,
    finish_reason: FINISH_REASONS[result.finishReason],
    generated_tokens: result.usage.completionTokens,
    seed: result.seed,
    tokens: result.tokens.map(tokenJson),
  };
}

/** @param topTokens how many alternatives each token was asked with; 0 leaves them out */
export function detailsJson(result: PredictResult, prompt: Prompt, topTokens: number): object {
  return {
    ...streamDetailsJson(result, prompt),
    tokens: result.tokens.map(tokenJson),
    ...(topTokens > 0 ? { top_tokens: result.tokens.map((token) => alternatives(token, topTokens)) } : {}),
  };
}

function alternatives(token: TokenInfo, count: number): object[] {
  return (token.top ?? []).slice(0, count).map(({ id, text, logprob }) => ({ id, text, log_prob: logprob }));
}
