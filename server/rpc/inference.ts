import type { ServiceImpl } from '@connectrpc/connect';
import type { InferenceService as InferenceServiceDesc } from '../../gen/loramux/v1/inference_pb.js';
import { ADAPTER_HEADER, receiptHeader, receiptsOf } from '../service/receipt-header.js';
import { renamedInference } from '../service/renamed-inference.js';
import type { InferenceService, Receipt } from '../service/types.js';
import { callContext } from './call.js';
import { refuseOtherPlaces } from './other-places.js';
import { fromRequest, wantsTokens } from './predict-request.js';
import { toEvent, toResult } from './predict-result.js';
import { assertValid } from './validation.js';

/** Names of fields in the schema, where the service has other ones. */
function nameOf(field: string): string {
  return field
    .replace(/^((?:inputs\[\d+\]\.)?)adapters\[/, '$1selection.adapters[')
    .replace('.token_ids[', '.token_ids.ids[');
}

/** Serves `loramux.v1.InferenceService`. */
export function inferenceRpc(inference: InferenceService): ServiceImpl<typeof InferenceServiceDesc> {
  const service = renamedInference(inference, nameOf);
  return {
    async predict(request, context) {
      assertValid(request);
      refuseOtherPlaces(context);
      const call = callContext(context, request.priority);
      const tokens = wantsTokens(request);
      const results = await service.predict(fromRequest(request), call);
      context.responseHeader.set(ADAPTER_HEADER, receiptHeader(receiptsOf(results)));
      return { results: results.map((result) => toResult(result, call.requestId, tokens(result.index))) };
    },

    async *streamPredict(request, context) {
      assertValid(request);
      refuseOtherPlaces(context);
      const call = callContext(context, request.priority);
      const tokens = wantsTokens(request);
      const receipts: Receipt[] = [];
      for await (const event of await service.stream(fromRequest(request), call)) {
        const message = toEvent(event, call.requestId, tokens(event.index));
        if (event.type === 'final') receipts[event.index] = event.result.receipt;
        if (message !== undefined) yield message;
      }
      context.responseTrailer.set(ADAPTER_HEADER, receiptHeader(receipts));
    },
  };
}
