/**
 * A row's logits over the vocabulary of its adapter. The graph computes those of the base's ids; an adapter with more ids
 * has output rows of its own, and one with fewer knows nothing of the last ones. Other rows never see them.
 */
import type { StepBackend } from './backend.js';
import type { RowAdapter } from './row-adapter.js';

/** What the logits of a step come with. */
type StepFacts = Pick<StepBackend, 'spec' | 'headInputs'>;

/**
 * The logits of `count` of a step's rows, from the `at`-th on.
 * @param logits // [rows of the step, vocab]
 * @returns [count, ids that the adapter knows]; a view of `logits` where these are the base's
 */
export function rowLogits(
  { spec, headInputs }: StepFacts,
  logits: Float32Array,
  at: number,
  { vocabulary }: RowAdapter,
  count = 1,
): Float32Array {
  const { vocabSize, hiddenSize } = spec;
  const own = logits.subarray(at * vocabSize, (at + count) * vocabSize);
  if (vocabulary === undefined) return own;
  const { size, rows } = vocabulary;
  const result = new Float32Array(count * size);
  const kept = Math.min(size, vocabSize);
  for (let row = 0; row < count; row += 1) {
    result.set(own.subarray(row * vocabSize, row * vocabSize + kept), row * size);
    if (rows.length === 0) continue;
    if (headInputs === undefined) throw new Error('this backend cannot apply output rows beyond the vocabulary');
    const input = headInputs.subarray((at + row) * hiddenSize, (at + row + 1) * hiddenSize);
    for (let id = vocabSize; id < size; id += 1) {
      const start = (id - vocabSize) * hiddenSize;
      let sum = vocabulary.bias?.[id - vocabSize] ?? 0;
      for (let i = 0; i < hiddenSize; i += 1) sum += input[i]! * rows[start + i]!;
      result[row * size + id] = finished(sum, spec.head);
    }
  }
  return result;
}

/** What the model does to a logit after the product. */
function finished(logit: number, { scale = 1, softcap }: StepFacts['spec']['head']): number {
  const scaled = logit * scale;
  return softcap === undefined ? scaled : softcap * Math.tanh(scaled / softcap);
}
