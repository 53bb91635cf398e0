/** Selection of the largest logits in one pass, without sorting the vocabulary. */
import { AppError } from '../errors.js';

/** Index of the largest logit, the lowest on ties; throws when there is no finite largest one. */
export function argmax(logits: Float32Array): number {
  let best = -1;
  let bestLogit = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    if (logits[id]! > bestLogit) {
      best = id;
      bestLogit = logits[id]!;
    }
  }
  expectFinite(bestLogit);
  return best;
}

/**
 * Refuses a row whose largest logit is no number to go by. That its adapters are too large is the likely cause; whoever
 * knows that it has none tells another.
 * @throws AppError ADAPTER_OVERFLOW
 */
export function expectFinite(largestLogit: number): void {
  if (!Number.isFinite(largestLogit)) {
    const what = 'the logits have no finite maximum: the model computed NaN or infinity';
    throw new AppError('ADAPTER_OVERFLOW', what);
  }
}

/**
 * Ids of the `count` largest logits, best first; ties go to the lower id.
 * A heap whose root is the worst of the kept ids: nearly all of a vocabulary fails the first comparison.
 */
export function largest(logits: Float32Array, count: number): Int32Array {
  const size = Math.min(count, logits.length);
  const heap = new Int32Array(size);
  const worse = (a: number, b: number): boolean => logits[a]! < logits[b]! || (logits[a]! === logits[b]! && a > b);
  const siftDown = (from: number): void => {
    const id = heap[from]!;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && worse(heap[child + 1]!, heap[child]!)) child++;
      if (!worse(heap[child]!, id)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = id;
  };
  for (let id = 0; id < size; id++) heap[id] = id;
  for (let at = (size >> 1) - 1; at >= 0; at--) siftDown(at);
  if (size > 0) {
    let bound = logits[heap[0]!]!;
    for (let id = size; id < logits.length; id++) {
      // An equal logit has a higher id than all that are kept, so it loses.
      if (!(logits[id]! > bound)) continue;
      heap[0] = id;
      siftDown(0);
      bound = logits[heap[0]!]!;
    }
  }
  return heap.sort((a, b) => logits[b]! - logits[a]! || a - b);
}
