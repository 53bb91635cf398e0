/** A prompt's tokens with their texts and log-probabilities. */
import type { PromptEvent } from '../engine/messages.js';
import { tokenText } from '../text/token-text.js';
import type { Tokenizer } from '../text/tokenizer.js';
import type { TokenInfo } from './types.js';

/**
 * All tokens of the prompt, special ones by name; their texts, joined, are the prompt as the model read it. The first
 * has no log-probability: nothing is before it.
 * @param scores what the engine told of the prompt, in any order
 */
export function promptTokens(
  promptIds: readonly number[],
  scores: readonly PromptEvent[],
  tokenizer: Tokenizer,
): TokenInfo[] {
  const decoder = tokenizer.incrementalDecoder({ skipSpecialTokens: false });
  const texts = promptIds.flatMap((id) => decoder.push(id));
  texts.push(...decoder.end());
  // The same few alternatives come up again and again.
  const known = new Map<number, string>();
  const textOf = (id: number): string => {
    const text = known.get(id) ?? tokenText(tokenizer, id);
    known.set(id, text);
    return text;
  };
  const tokens: TokenInfo[] = promptIds.map((id, at) => ({ id, text: texts[at]!, special: tokenizer.isSpecial(id) }));
  for (const { from, logprobs, topIds, topLogprobs } of scores) {
    const count = logprobs.length === 0 ? 0 : topIds.length / logprobs.length;
    for (const [i, logprob] of logprobs.entries()) {
      const top = Array.from(topIds.subarray(i * count, (i + 1) * count), (id, rank) => ({
        id,
        text: textOf(id),
        logprob: topLogprobs[i * count + rank]!,
      }));
      tokens[from + i] = { ...tokens[from + i]!, logprob, ...(count > 0 && { top }) };
    }
  }
  return tokens;
}
