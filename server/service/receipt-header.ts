/** Which weights answered, in one line: the short form of receipts that every surface sends beside the body. */
import type { PredictResult, Receipt } from './types.js';

/** Name of the header of answers, and of the trailer of streams. */
export const ADAPTER_HEADER = 'x-loramux-adapter';

/** Digits of a digest in the line; the receipt in the body has all of them. */
const DIGEST_DIGITS = 16;
/** Most characters; clients refuse longer header blocks. */
const MAX_LENGTH = 4096;

function part({ adapters }: Receipt): string {
  if (adapters.length === 0) return 'base';
  return adapters
    .map(({ name, digest, weight, resolved }) => {
      const factor = weight === 1 ? '' : `*${weight}`;
      const led = resolved === undefined ? '' : `=${encodeURIComponent(resolved)}`;
      return `${encodeURIComponent(name)}${led}@${digest.slice(0, DIGEST_DIGITS)}${factor}`;
    })
    .join('+');
}

/**
 * `name@digest` for each adapter, `*weight` where it is not 1, joined by `+` within an input; `base` for none. A name
 * that is an alias is `alias=name@digest`. Names are percent-encoded. Inputs are separated by `, `; a single part stands
 * for all inputs when they are alike. Where that is too long for a header, the line only says how many inputs there are.
 */
export function receiptHeader(receipts: readonly Receipt[]): string {
  const parts = receipts.map(part);
  const distinct = [...new Set(parts)];
  const text = (distinct.length === 1 ? distinct : parts).join(', ');
  return text.length <= MAX_LENGTH ? text : `${parts.length} inputs; see details.receipt`;
}

/** The receipts of all inputs: the samples of one share theirs. */
export function receiptsOf(results: readonly PredictResult[]): Receipt[] {
  return results.filter(({ sample }) => sample === 0).map(({ receipt }) => receipt);
}
