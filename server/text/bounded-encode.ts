/** Encoding of texts that may be far too long: it takes the thread on which all requests are read. */
import type { Tokenizer } from './tokenizer.js';

/** What is read of a text first, in characters for each token that is of use. */
const FIRST_CHARS_PER_TOKEN = 4;

/** The ids of a text, or of its beginning where that alone is too much. */
export interface BoundedIds {
  readonly ids: readonly number[];
  /** False: the text goes on. */
  readonly whole: boolean;
}

/**
 * Encodes a text. One that has more than twice `most` tokens is not read to its end: longer and longer beginnings are
 * tried, so that the work grows with `most`, however long the text is. Twice, because a beginning that is cut somewhere is
 * encoded a little differently from how it is encoded within the text.
 */
export function encodeBounded(tokenizer: Tokenizer, text: string, addSpecialTokens: boolean, most: number): BoundedIds {
  for (let length = FIRST_CHARS_PER_TOKEN * most; length < text.length / 2; length *= 2) {
    const ids = tokenizer.encode(text.slice(0, length), addSpecialTokens);
    if (ids.length > 2 * most) return { ids, whole: false };
  }
  return { ids: tokenizer.encode(text, addSpecialTokens), whole: true };
}
