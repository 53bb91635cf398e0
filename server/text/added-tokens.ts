/** A model's tokenizer with tokens that an adapter adds: they are found in a text first, as added tokens always are. */
import { type DecodeOptions, decodeWhole, type IncrementalDecoder, type Tokenizer } from './tokenizer.js';

/** What is added: texts with ids that the model's own tokenizer does not know. */
export interface ExtraToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/** The tokenizer with `tokens`; what it knows already stays as it is. */
export function withAddedTokens(tokenizer: Tokenizer, tokens: readonly ExtraToken[]): Tokenizer {
  const extra = tokens.filter(({ content }) => tokenizer.idOf(content) === undefined);
  return extra.length === 0 ? tokenizer : new ExtendedTokenizer(tokenizer, extra);
}

class ExtendedTokenizer implements Tokenizer {
  readonly #own: Tokenizer;
  readonly #byId: ReadonlyMap<number, ExtraToken>;
  readonly #byContent: ReadonlyMap<string, ExtraToken>;
  /** The longest of several that begin at one place. */
  readonly #pattern: RegExp;

  constructor(own: Tokenizer, tokens: readonly ExtraToken[]) {
    this.#own = own;
    this.#byId = new Map(tokens.map((token) => [token.id, token]));
    this.#byContent = new Map(tokens.map((token) => [token.content, token]));
    const longestFirst = [...this.#byContent.keys()].sort((a, b) => b.length - a.length);
    this.#pattern = new RegExp(`(${longestFirst.map(escaped).join('|')})`, 'u');
  }

  encode(text: string, addSpecialTokens: boolean): number[] {
    // split() puts the tokens at the odd places.
    const pieces = text.split(this.#pattern);
    if (pieces.length === 1) return this.#own.encode(text, addSpecialTokens);
    const ids = pieces.flatMap((piece, at) => {
      if (at % 2 === 1) return [this.#byContent.get(piece)!.id];
      return piece === '' ? [] : this.#own.encode(piece, false);
    });
    if (!addSpecialTokens) return ids;
    const { before, after } = this.#surroundings();
    return [...before, ...ids, ...after];
  }

  decode(ids: readonly number[], skipSpecialTokens: boolean): string {
    return decodeWhole(this.incrementalDecoder({ skipSpecialTokens }), ids);
  }

  incrementalDecoder(options: DecodeOptions): IncrementalDecoder {
    return new ExtendedDecoder(this.#own, this.#byId, options);
  }

  isSpecial(id: number): boolean {
    return this.#byId.get(id)?.special ?? this.#own.isSpecial(id);
  }

  idOf(token: string): number | undefined {
    return this.#byContent.get(token)?.id ?? this.#own.idOf(token);
  }

  /** What the post-processor puts around a text. */
  #surroundings(): { before: number[]; after: number[] } {
    const probe = 'a';
    const inner = this.#own.encode(probe, false);
    const whole = this.#own.encode(probe, true);
    for (let at = 0; at + inner.length <= whole.length; at += 1) {
      if (inner.every((id, i) => whole[at + i] === id)) {
        return { before: whole.slice(0, at), after: whole.slice(at + inner.length) };
      }
    }
    return { before: [], after: [] };
  }
}

/** Decodes stretches of the model's own ids by its own decoder; an added token ends a stretch. */
class ExtendedDecoder implements IncrementalDecoder {
  readonly #own: Tokenizer;
  readonly #tokens: ReadonlyMap<number, ExtraToken>;
  readonly #options: DecodeOptions;
  #stretch: IncrementalDecoder;

  constructor(own: Tokenizer, tokens: ReadonlyMap<number, ExtraToken>, options: DecodeOptions) {
    this.#own = own;
    this.#tokens = tokens;
    this.#options = options;
    this.#stretch = own.incrementalDecoder(options);
  }

  push(id: number): readonly string[] {
    const token = this.#tokens.get(id);
    if (token === undefined) return this.#stretch.push(id);
    const texts = [...this.#stretch.end(), token.special && this.#options.skipSpecialTokens ? '' : token.content];
    this.#stretch = this.#own.incrementalDecoder({ ...this.#options, continuation: true });
    return texts;
  }

  end(): readonly string[] {
    return this.#stretch.end();
  }
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
