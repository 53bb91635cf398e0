/** Text to token ids and back, as the model's `tokenizer.json` says. */
export interface Tokenizer {
  /** Ids of the text; `addSpecialTokens` also adds what the tokenizer's post-processor adds (for example BOS). */
  encode(text: string, addSpecialTokens: boolean): number[];
  /** Text of the ids, decoded together. */
  decode(ids: readonly number[], skipSpecialTokens: boolean): string;
  /** True for ids of special added tokens. */
  isSpecial(id: number): boolean;
  /** Id of a token's exact content, if it is in the vocabulary. */
  idOf(token: string): number | undefined;
}
