import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  FinishReason as FinishReasonMessage,
  type PredictResultSchema,
  type StreamPredictResponseSchema,
  type TokenSchema,
} from '../../gen/loramux/v1/inference_pb.js';
import type { FinishReason, PredictEvent, PredictResult, TokenInfo } from '../service/types.js';

const FINISH_REASONS: Readonly<Record<FinishReason, FinishReasonMessage>> = {
  eos: FinishReasonMessage.EOS,
  stop: FinishReasonMessage.STOP,
  length: FinishReasonMessage.LENGTH,
};

function token({ id, text, logprob, top, special }: TokenInfo): MessageInitShape<typeof TokenSchema> {
  return {
    id,
    text,
    ...(logprob !== undefined && { logprob }),
    top: top?.map((alternative) => ({ ...alternative })) ?? [],
    special,
  };
}

/** Renders a result; `tokens` says whether it lists them. */
export function toResult(
  result: PredictResult,
  requestId: string,
  tokens: boolean,
): MessageInitShape<typeof PredictResultSchema> {
  const { receipt } = result;
  return {
    inputIndex: result.index,
    sampleIndex: result.sample,
    text: result.text,
    finishReason: FINISH_REASONS[result.finishReason],
    ...(result.stopString !== undefined && { stopString: result.stopString }),
    usage: { ...result.usage },
    timings: { ...result.timings },
    receipt: {
      model: receipt.model,
      baseFingerprint: receipt.baseFingerprint,
      adapters: receipt.adapters.map((adapter) => ({ ...adapter })),
      requestId,
    },
    seed: result.seed,
    tokens: tokens ? result.tokens.map(token) : [],
    promptTokens: result.promptTokens?.map(token) ?? [],
  };
}

/** Renders an event of a stream; undefined when the client has no use for it (tokens that it did not ask for). */
export function toEvent(
  event: PredictEvent,
  requestId: string,
  tokens: boolean,
): MessageInitShape<typeof StreamPredictResponseSchema> | undefined {
  if (event.type === 'final') {
    return {
      inputIndex: event.index,
      sampleIndex: event.sample,
      event: { case: 'final', value: toResult(event.result, requestId, tokens) },
    };
  }
  if (event.text === '' && !tokens) return undefined;
  return {
    inputIndex: event.index,
    sampleIndex: event.sample,
    event: { case: 'delta', value: { text: event.text, tokens: tokens ? event.tokens.map(token) : [] } },
  };
}
