/** Log-probabilities of the raw distribution, before penalties, temperature and filters. */
import { expOfMinus } from './logits-exp.js';
import { argmax, largest } from './logits-select.js';

/** A token and the natural log of its probability. */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** ln(sum(exp(logits))), computed relative to the largest logit. */
export function logSumExp(logits: Float32Array): number {
  const best = logits[argmax(logits)]!;
  let total = 0;
  for (let id = 0; id < logits.length; id++) total += expOfMinus(best - logits[id]!);
  return best + Math.log(total);
}

/**
 * Log-softmax of the chosen token and of the `topCount` most likely ones (best first, lower id first on ties).
 * @param norm ln(sum(exp(logits))), where it is known already
 */
export function rawLogprobs(
  logits: Float32Array,
  chosen: number,
  topCount: number,
  norm = logSumExp(logits),
): { readonly logprob: number; readonly top: readonly TokenLogprob[] } {
  const top = topCount > 0 ? Array.from(largest(logits, topCount), (id) => ({ id, logprob: logits[id]! - norm })) : [];
  return { logprob: logits[chosen]! - norm, top };
}
