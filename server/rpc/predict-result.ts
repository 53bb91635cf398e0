import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  FinishReason as FinishReasonMessage,
  type PredictResultSchema,
  type StreamPredictResponseSchema,
  type TokenSchema,
} from '../../gen/loramux/v1/inference_pb.js';
import type { FinishReason, PredictEvent, PredictResult, Receipt, TokenInfo } from '../service/types.js';

const FINISH_REASONS: Readonly<Record<FinishReason, FinishReasonMessage>> = {
  eos: FinishReasonMessage.EOS,
  stop: FinishReasonMessage.STOP,
  length: FinishReasonMessage.LENGTH,
  cancelled: FinishReasonMessage.CANCELLED,
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

/** Response header (trailer of a stream) that names what answered each input. */
export const ADAPTER_HEADER = 'x-loramux-adapter';

/** Headers have limits (Node's own is 16 KiB for all of them); a longer receipt is left to the body. */
const MAX_HEADER_LENGTH = 4096;
const DIGEST_LENGTH = 12;

function receiptEntry({ adapters, baseFingerprint }: Receipt): string {
  if (adapters.length === 0) return `base@${baseFingerprint.slice(0, DIGEST_LENGTH)}`;
  return adapters
    .map(({ name, digest, weight, resolved }) => {
      const factor = weight === 1 ? '' : `*${weight}`;
      const led = resolved === undefined ? '' : `=${encodeURIComponent(resolved)}`;
      return `${encodeURIComponent(name)}${led}@${digest.slice(0, DIGEST_LENGTH)}${factor}`;
    })
    .join('+');
}

/**
 * The receipts of all inputs in one header value: `name@digest`, inputs separated by commas, adapters of one input by
 * `+` with `*weight` where it is not 1, an alias as `alias=name@digest`; names percent-encoded. Undefined when it would be too long for a header.
 */
export function adapterHeader(receipts: readonly Receipt[]): string | undefined {
  const value = receipts.map(receiptEntry).join(',');
  return value.length <= MAX_HEADER_LENGTH ? value : undefined;
}
