/** The tokenizer of a Hugging Face model folder. */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { AppError } from '../errors.js';
import { PipelineDecoder, readDecoder, type StageFactory, type TokenTexts } from './decode-pipeline.js';
import type { DecodeOptions, IncrementalDecoder, Tokenizer } from './tokenizer.js';
import { contentOf, type JsonObject, namedSpecialTokens, readJsonObject } from './tokenizer-files.js';

const TOKENIZER_FILE = 'tokenizer.json';
const CONFIG_FILE = 'tokenizer_config.json';
const SPECIAL_FILE = 'special_tokens_map.json';

/**
 * Loads `tokenizer.json`, with the special tokens that `tokenizer_config.json` and `special_tokens_map.json` add.
 * @throws AppError MODEL_INVALID, naming the file
 */
export async function loadTokenizer(modelDir: string): Promise<Tokenizer> {
  const [tokenizer, config, special] = await Promise.all([
    readJsonObject(modelDir, TOKENIZER_FILE),
    readJsonObject(modelDir, CONFIG_FILE),
    readJsonObject(modelDir, SPECIAL_FILE),
  ]);
  if (tokenizer === undefined) {
    throw new AppError('MODEL_INVALID', `${TOKENIZER_FILE} is missing from the model folder`, {
      metadata: { file: TOKENIZER_FILE },
    });
  }
  return makeTokenizer(tokenizer, config, special);
}

/**
 * Makes a tokenizer of the contents of those files. Encoding is done by `@huggingface/tokenizers`; decoding is our own,
 * because answers are decoded token by token. `clean_up_tokenization_spaces` is not applied: it would alter text that
 * the model has written.
 * @throws AppError MODEL_INVALID
 */
export function makeTokenizer(tokenizer: JsonObject, config?: JsonObject, special?: JsonObject): Tokenizer {
  const makeStages = readDecoder(tokenizer.decoder, TOKENIZER_FILE);
  let library: LibraryTokenizer;
  try {
    library = new LibraryTokenizer(tokenizer, config ?? {});
  } catch (cause) {
    throw new AppError('MODEL_INVALID', `${TOKENIZER_FILE} cannot be used: ${(cause as Error).message}`, {
      metadata: { file: TOKENIZER_FILE },
      cause,
    });
  }
  return new HfTokenizer(library, specialIds(library, tokenizer, config, special), makeStages);
}

/** Ids that any of the files calls special. */
function specialIds(
  library: LibraryTokenizer,
  tokenizer: JsonObject,
  config: JsonObject | undefined,
  special: JsonObject | undefined,
): Set<number> {
  const contents = new Set<string>(Object.values(namedSpecialTokens(config, special)));
  const declared = [
    ...(Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens : []),
    ...Object.values((config?.added_tokens_decoder as JsonObject | undefined) ?? {}),
  ];
  for (const token of declared as { content?: unknown; special?: unknown }[]) {
    const content = contentOf(token);
    if (content !== undefined && token.special === true) contents.add(content);
  }
  for (const source of [config, special]) {
    const extra = source?.additional_special_tokens ?? source?.extra_special_tokens;
    for (const token of Object.values((extra as JsonObject | readonly unknown[] | undefined) ?? {})) {
      const content = contentOf(token);
      if (content !== undefined) contents.add(content);
    }
  }
  const ids = new Set<number>();
  for (const content of contents) {
    const id = library.token_to_id(content);
    if (id !== undefined) ids.add(id);
  }
  return ids;
}

class HfTokenizer implements Tokenizer, TokenTexts {
  readonly #library: LibraryTokenizer;
  readonly #special: ReadonlySet<number>;
  readonly #makeStages: StageFactory;

  constructor(library: LibraryTokenizer, special: ReadonlySet<number>, makeStages: StageFactory) {
    this.#library = library;
    this.#special = special;
    this.#makeStages = makeStages;
  }

  encode(text: string, addSpecialTokens: boolean): number[] {
    const { ids } = this.#library.encode(text, { add_special_tokens: addSpecialTokens });
    // A character without a token, in a vocabulary without an unknown token, leaves a hole.
    return (ids as number[]).filter((id) => Number.isInteger(id));
  }

  decode(ids: readonly number[], skipSpecialTokens: boolean): string {
    const decoder = this.incrementalDecoder({ skipSpecialTokens });
    let text = '';
    for (const id of ids) text += decoder.push(id).join('');
    return text + decoder.end().join('');
  }

  incrementalDecoder(options: DecodeOptions): IncrementalDecoder {
    return new PipelineDecoder(this, this.#makeStages, options);
  }

  textOf(id: number): string | undefined {
    return this.#library.id_to_token(id);
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  idOf(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }
}
