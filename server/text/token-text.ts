import type { Tokenizer } from './tokenizer.js';

/** Text of a token by itself, inside a text: with its leading space, and special tokens by name. */
export function tokenText(tokenizer: Tokenizer, id: number): string {
  const decoder = tokenizer.incrementalDecoder({ skipSpecialTokens: false, continuation: true });
  return [...decoder.push(id), ...decoder.end()].join('');
}
