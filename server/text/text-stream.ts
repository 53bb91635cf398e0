/** The text of one row as it grows: whole characters only, and nothing of a stop string. */
import { type StopMatch, StopMatcher } from './stop-matcher.js';
import type { DecodeOptions, IncrementalDecoder, Tokenizer } from './tokenizer.js';

/** A token whose text is final. */
export interface TextPiece {
  readonly id: number;
  /** What the token adds to the answer; the texts of all pieces, joined, are the answer. */
  readonly text: string;
}

/** What became final with a token. */
export interface Released {
  /** Tokens in the order they were generated. */
  readonly pieces: readonly TextPiece[];
  /** The stop string that ended the text; the text ends before it, and the stream takes no more tokens. */
  readonly stop?: string | undefined;
}

/**
 * Turns generated ids into released pieces. A token is released, whole, once all of its text is certain: it may have to
 * wait for the rest of a character or until a possible stop string has turned out not to be one. After a stop string
 * the last piece is the token that completed it; pieces inside the stop string have no text.
 */
export class TextStream {
  readonly #decoder: IncrementalDecoder;
  readonly #stops: StopMatcher;
  /** Tokens not released yet, oldest first; `end` is the length of the text with the token, once it is decoded. */
  #waiting: { readonly id: number; text: string; end: number | undefined }[] = [];
  #undecoded = 0;
  #length = 0;
  #ended = false;

  /** @param stops strings that end the text, none of them empty */
  constructor(tokenizer: Tokenizer, stops: readonly string[], options: DecodeOptions = { skipSpecialTokens: true }) {
    this.#decoder = tokenizer.incrementalDecoder(options);
    this.#stops = new StopMatcher(stops);
  }

  /** Takes the next generated id. */
  push(id: number): Released {
    if (this.#ended) return { pieces: [] };
    this.#waiting.push({ id, text: '', end: undefined });
    return this.#settle(this.#decoder.push(id));
  }

  /**
   * The row has ended: releases everything. Broken characters at the end become U+FFFD, and the text may turn out to
   * hold a stop string even now.
   * @param endId the token that ended the row; it is released last and adds no text
   */
  end(endId?: number): Released {
    if (this.#ended) return { pieces: [] };
    const { pieces, stop } = this.#settle(this.#decoder.end());
    if (stop !== undefined) return { pieces, stop };
    this.#ended = true;
    const rest = this.#waiting.map(({ id, text }) => ({ id, text }));
    if (endId !== undefined) rest.push({ id: endId, text: '' });
    return { pieces: [...pieces, ...rest] };
  }

  /** Gives the oldest undecoded tokens their texts and releases what can be. */
  #settle(texts: readonly string[]): Released {
    for (const text of texts) {
      const token = this.#waiting[this.#undecoded++]!;
      token.text = text;
      this.#length += text.length;
      token.end = this.#length;
      const match = this.#stops.push(text);
      if (match !== undefined) return this.#cut(match);
    }
    const safe = this.#stops.safeLength;
    const count = this.#waiting.findIndex(({ end }) => end === undefined || end > safe);
    return { pieces: this.#shift(count < 0 ? this.#waiting.length : count) };
  }

  /** Ends the text before the stop string; the last token of the answer is the one that completed it. */
  #cut({ stop, start }: StopMatch): Released {
    this.#ended = true;
    const pieces = this.#shift(this.#undecoded, start);
    this.#waiting = [];
    return { pieces, stop };
  }

  /** Takes the oldest tokens out; what lies behind `limit` of the text is cut off. */
  #shift(count: number, limit = Number.POSITIVE_INFINITY): TextPiece[] {
    this.#undecoded -= count;
    return this.#waiting.splice(0, count).map(({ id, text, end }) => {
      const begin = end! - text.length;
      return { id, text: text.slice(0, Math.max(0, limit - begin)) };
    });
  }
}
