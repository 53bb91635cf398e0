/** Log-probabilities of a prompt's tokens, chunk by chunk as it is read: each token's given those before it. */
import { rawLogprobs } from './logits-logprobs.js';
import type { PromptEvent } from './messages.js';

/** Most logits of one chunk, in floats: a step of a row that scores its prompt takes this much memory and no more. */
const CHUNK_FLOATS = 8 * 1024 * 1024;

/** Most tokens of one chunk of a row that scores its prompt. */
export function mostScored(vocabSize: number): number {
  return Math.max(1, Math.floor(CHUNK_FLOATS / vocabSize));
}

/** Scores one row's prompt. The first token has nothing before it, and so no log-probability. */
export class PromptScorer {
  readonly #promptIds: readonly number[];
  readonly #top: number;

  /** @param top how many alternatives of each token are wanted */
  constructor(promptIds: readonly number[], top: number) {
    this.#promptIds = promptIds;
    this.#top = top;
  }

  /**
   * Scores the tokens that a chunk's logits predict.
   * @param from position of the chunk's first token
   * @param count tokens of the chunk
   * @param logits // [tokens of the chunk, vocab]
   */
  score(id: number, from: number, count: number, logits: Float32Array): PromptEvent {
    const vocabSize = logits.length / count;
    const ranks = Math.min(this.#top, vocabSize);
    const scored = Math.min(from + count, this.#promptIds.length - 1) - from;
    const logprobs = new Float64Array(scored);
    const topIds = new Int32Array(scored * ranks);
    const topLogprobs = new Float64Array(scored * ranks);
    for (let i = 0; i < scored; i++) {
      const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
      const { logprob, top } = rawLogprobs(row, this.#promptIds[from + i + 1]!, ranks);
      logprobs[i] = logprob;
      for (const [rank, one] of top.entries()) {
        topIds[i * ranks + rank] = one.id;
        topLogprobs[i * ranks + rank] = one.logprob;
      }
    }
    return { id, from: from + 1, logprobs, topIds, topLogprobs };
  }
}
