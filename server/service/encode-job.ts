/** What is done with a text, in whichever thread. */
import { withAddedTokens } from '../text/added-tokens.js';
import { encodeBounded } from '../text/bounded-encode.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { EncodedText, EncodeJob } from './encode-messages.js';

/** Encodes the text, or as much of it as is of use. */
export function encodeJob(tokenizer: Tokenizer, job: EncodeJob): EncodedText {
  const { text, addSpecialTokens, most, last, added } = job;
  const fitted = added.reduce(withAddedTokens, tokenizer);
  const { ids, whole } = encodeBounded(fitted, text, addSpecialTokens, most);
  return { ids: last === undefined ? ids : ids.slice(-last), count: ids.length, whole };
}
