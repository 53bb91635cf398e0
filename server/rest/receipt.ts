/** Receipts in the body. */
import type { Receipt } from '../service/types.js';

/** A receipt as JSON, in the style of the DJL routes. */
export function receiptJson(receipt: Receipt): object {
  return {
    model: receipt.model,
    base_fingerprint: receipt.baseFingerprint,
    adapters: receipt.adapters.map(({ name, digest, weight, resolved }) => ({
      ...{ name, digest, weight },
      ...(resolved !== undefined && { resolved }),
    })),
  };
}
