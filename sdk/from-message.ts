import {
  FinishReason as FinishReasonMessage,
  type PredictResult as ResultMessage,
  type StreamPredictResponse,
  type Token as TokenMessage,
} from '../gen/loramux/v1/inference_pb.js';
import type { FinishReason, PredictResult, StreamEvent, Token } from './types.js';

const FINISH_REASONS: Readonly<Record<FinishReasonMessage, FinishReason | undefined>> = {
  [FinishReasonMessage.UNSPECIFIED]: undefined,
  [FinishReasonMessage.EOS]: 'eos',
  [FinishReasonMessage.STOP]: 'stop',
  [FinishReasonMessage.LENGTH]: 'length',
  [FinishReasonMessage.CANCELLED]: 'cancelled',
};

/** Throws where this version does not know what a newer server sent. */
export function known<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new TypeError(`the server sent a ${what} that this version does not know`);
  return value;
}

function token({ id, text, logprob, top, special }: TokenMessage): Token {
  return {
    id,
    text,
    ...(logprob !== undefined && { logprob }),
    top: top.map((one) => ({ id: one.id, text: one.text, logprob: one.logprob })),
    special,
  };
}

/** Plain object of a result. */
export function fromResult(message: ResultMessage): PredictResult {
  const { usage, timings, receipt, stopString } = message;
  return {
    inputIndex: message.inputIndex,
    sampleIndex: message.sampleIndex,
    text: message.text,
    finishReason: known(FINISH_REASONS[message.finishReason], 'finish reason'),
    ...(stopString !== undefined && { stopString }),
    usage: {
      promptTokens: usage?.promptTokens ?? 0,
      completionTokens: usage?.completionTokens ?? 0,
      cachedTokens: usage?.cachedTokens ?? 0,
    },
    timings: {
      queueMs: timings?.queueMs ?? 0,
      prefillMs: timings?.prefillMs ?? 0,
      decodeMs: timings?.decodeMs ?? 0,
    },
    receipt: {
      model: receipt?.model ?? '',
      baseFingerprint: receipt?.baseFingerprint ?? '',
      adapters: (receipt?.adapters ?? []).map(({ name, digest, weight, resolved }) => ({
        ...{ name, digest, weight },
        ...(resolved !== undefined && { resolved }),
      })),
      requestId: receipt?.requestId ?? '',
    },
    seed: message.seed,
    tokens: message.tokens.map(token),
    promptTokens: message.promptTokens.map(token),
  };
}

/** Plain object of an event. */
export function fromEvent({ inputIndex, sampleIndex, event }: StreamPredictResponse): StreamEvent {
  if (event.case === 'delta') {
    return { type: 'delta', inputIndex, sampleIndex, text: event.value.text, tokens: event.value.tokens.map(token) };
  }
  return { type: 'final', inputIndex, sampleIndex, result: fromResult(known(event.value, 'kind of event')) };
}
