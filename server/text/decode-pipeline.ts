/** Builds the stages of `tokenizer.json`'s `decoder` and runs a sequence through them. */
import { AppError } from '../errors.js';
import {
  ByteFallbackStage,
  ByteLevelStage,
  type DecodeStage,
  MapStage,
  type Piece,
  StripStage,
  WordSuffixStage,
} from './decode-stages.js';
import type { DecodeOptions, IncrementalDecoder } from './tokenizer.js';

/** A decoder of `tokenizer.json`, as far as it is read here. */
interface DecoderConfig {
  readonly type?: unknown;
  readonly decoders?: unknown;
  readonly pattern?: { readonly String?: unknown; readonly Regex?: unknown };
  readonly content?: unknown;
  readonly start?: unknown;
  readonly stop?: unknown;
  readonly replacement?: unknown;
  readonly prepend_scheme?: unknown;
  readonly add_prefix_space?: unknown;
  readonly suffix?: unknown;
}

/** Makes the stages for one sequence; `continuation` as in {@link DecodeOptions}. */
export type StageFactory = (continuation: boolean) => DecodeStage[];

/**
 * Reads the `decoder` section.
 * @param file named in the error
 * @throws AppError MODEL_INVALID for a step that is unknown or cannot run token by token
 */
export function readDecoder(section: unknown, file: string): StageFactory {
  // Without a decoder the library joins the tokens with spaces.
  if (section === null || section === undefined) {
    return (continuation) => [new MapStage((text, first) => (first && !continuation ? text : ` ${text}`))];
  }
  const steps = flatten(section as DecoderConfig, file);
  let fused = false;
  const factories: ((continuation: boolean) => DecodeStage)[] = [];
  for (const step of steps) {
    if (step.type === 'Fuse') fused = true;
    else factories.push(stageOf(step, fused, file));
    // These join the tokens as they go.
    if (step.type === 'ByteLevel') fused = true;
  }
  return (continuation) => factories.map((make) => make(continuation));
}

function flatten(config: DecoderConfig, file: string): DecoderConfig[] {
  if (typeof config !== 'object' || config === null) throw invalid(file, 'the decoder is not an object');
  if (config.type !== 'Sequence') return [config];
  if (!Array.isArray(config.decoders)) throw invalid(file, 'the decoder is a Sequence without a list "decoders"');
  return config.decoders.flatMap((step) => flatten(step, file));
}

function stageOf(step: DecoderConfig, fused: boolean, file: string): (continuation: boolean) => DecodeStage {
  switch (step.type) {
    case 'ByteLevel':
      if (fused) break;
      return () => new ByteLevelStage();
    case 'ByteFallback':
      if (fused) break;
      return () => new ByteFallbackStage();
    case 'Replace': {
      const { String: literal, Regex: regex } = step.pattern ?? {};
      // On fused text a longer pattern could match across tokens.
      if (fused && !(typeof literal === 'string' && [...literal].length === 1)) break;
      const content = String(step.content ?? '');
      const pattern = typeof literal === 'string' ? literal : toRegExp(regex, file);
      return () => new MapStage((text) => text.replaceAll(pattern, () => content));
    }
    case 'Strip': {
      const content = String(step.content ?? '');
      const start = Number(step.start ?? 0);
      const stop = Number(step.stop ?? 0);
      if ([...content].length !== 1) throw invalid(file, 'the decoder step Strip needs one character as "content"');
      if (fused) return (continuation) => new StripStage(content, continuation ? 0 : start, stop);
      return () => new MapStage((text) => stripToken(text, content, start, stop));
    }
    case 'Metaspace': {
      const replacement = String(step.replacement ?? '▁');
      const prepends = (step.prepend_scheme ?? (step.add_prefix_space === false ? 'never' : 'always')) !== 'never';
      return (continuation) =>
        new MapStage((text, first) => text.replaceAll(replacement, first && prepends && !continuation ? '' : ' '));
    }
    case 'BPEDecoder':
      if (fused) break;
      return () => new WordSuffixStage(String(step.suffix ?? '</w>'));
  }
  const place = fused ? ' after the tokens were fused' : '';
  throw invalid(file, `decoder step ${JSON.stringify(step.type)}${place} is not supported`);
}

function stripToken(text: string, content: string, start: number, stop: number): string {
  const characters = [...text];
  let from = 0;
  while (from < start && characters[from] === content) from++;
  let to = characters.length;
  while (to > from && characters.length - to < stop && characters[to - 1] === content) to--;
  return characters.slice(from, to).join('');
}

function toRegExp(source: unknown, file: string): RegExp {
  try {
    return new RegExp(String(source), 'gu');
  } catch (cause) {
    throw invalid(file, `the pattern ${JSON.stringify(source)} of a Replace step cannot be read`, cause);
  }
}

function invalid(file: string, what: string, cause?: unknown): AppError {
  return new AppError('MODEL_INVALID', `${file}: ${what}`, { metadata: { file }, cause });
}

/** What the pipeline needs to know of a vocabulary. */
export interface TokenTexts {
  /** A token as it stands in the vocabulary; undefined where the id has none. */
  textOf(id: number): string | undefined;
  isSpecial(id: number): boolean;
}

/** Runs ids through the stages and hands out the texts of the tokens that are certain, in order. */
export class PipelineDecoder implements IncrementalDecoder {
  readonly #vocabulary: TokenTexts;
  readonly #stages: readonly DecodeStage[];
  readonly #skipSpecialTokens: boolean;
  /** Texts of the tokens from `#returned` on. */
  #texts: string[] = [];
  #returned = 0;

  constructor(vocabulary: TokenTexts, makeStages: StageFactory, options: DecodeOptions) {
    this.#vocabulary = vocabulary;
    this.#stages = makeStages(options.continuation ?? false);
    this.#skipSpecialTokens = options.skipSpecialTokens;
  }

  push(id: number): readonly string[] {
    const token = this.#returned + this.#texts.push('') - 1;
    const text = this.#vocabulary.textOf(id);
    if (text !== undefined && !(this.#skipSpecialTokens && this.#vocabulary.isSpecial(id))) {
      this.#feed(0, { token, text });
    }
    let certain = this.#returned + this.#texts.length;
    for (const stage of this.#stages) certain = Math.min(certain, stage.heldFrom);
    return this.#take(certain - this.#returned);
  }

  end(): readonly string[] {
    for (const [at, stage] of this.#stages.entries()) stage.end((piece) => this.#feed(at + 1, piece));
    return this.#take(this.#texts.length);
  }

  #feed(at: number, piece: Piece): void {
    const stage = this.#stages[at];
    if (stage !== undefined) stage.push(piece, (next) => this.#feed(at + 1, next));
    else if (piece.text !== '') this.#texts[piece.token - this.#returned] += piece.text;
  }

  #take(count: number): readonly string[] {
    this.#returned += count;
    return this.#texts.splice(0, count);
  }
}
