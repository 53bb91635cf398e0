/** How to turn ids into text. */
export interface DecodeOptions {
  /** True: special tokens add no text. */
  readonly skipSpecialTokens: boolean;
  /** True: the ids go on from earlier text, so the first word keeps the leading space that decoding alone would drop. */
  readonly continuation?: boolean | undefined;
}

/**
 * Decodes one sequence id by id. The texts that come out, joined, are what decoding the whole sequence gives, and none
 * of them ends inside a character: text comes out as soon as no later id can change it.
 */
export interface IncrementalDecoder {
  /** Takes the next id. Returns the texts of the tokens that became certain, from the oldest one not returned yet. */
  push(id: number): readonly string[];
  /** Ends the sequence: the texts of all tokens not returned yet. */
  end(): readonly string[];
}

/** The whole text of a sequence, by a decoder that has seen nothing yet. */
export function decodeWhole(decoder: IncrementalDecoder, ids: readonly number[]): string {
  let text = '';
  for (const id of ids) text += decoder.push(id).join('');
  return text + decoder.end().join('');
}

/** Text to token ids and back, as the model's `tokenizer.json` says. */
export interface Tokenizer {
  /** Ids of the text; `addSpecialTokens` also adds what the tokenizer's post-processor adds (for example BOS). */
  encode(text: string, addSpecialTokens: boolean): number[];
  /** Text of the ids, decoded together. An id without a token decodes to nothing. */
  decode(ids: readonly number[], skipSpecialTokens: boolean): string;
  /** A decoder for one sequence that arrives id by id. */
  incrementalDecoder(options: DecodeOptions): IncrementalDecoder;
  /** True for ids of special added tokens. */
  isSpecial(id: number): boolean;
  /** Id of a token's exact content, if it is in the vocabulary. */
  idOf(token: string): number | undefined;
}
