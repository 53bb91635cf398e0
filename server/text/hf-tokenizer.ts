/** The tokenizer of a Hugging Face model folder. */
import { Tokenizer as LibraryTokenizer } from '@huggingface/tokenizers';
import { AppError } from '../errors.js';
import { PipelineDecoder, readDecoder, type StageFactory, type TokenTexts } from './decode-pipeline.js';
import { FolderFiles, type TextFiles } from './text-files.js';
import { type DecodeOptions, decodeWhole, type IncrementalDecoder, type Tokenizer } from './tokenizer.js';
import { contentOf, type JsonObject, namedSpecialTokens, readJsonObject } from './tokenizer-files.js';

const TOKENIZER_FILE = 'tokenizer.json';
const CONFIG_FILE = 'tokenizer_config.json';
const SPECIAL_FILE = 'special_tokens_map.json';

/**
 * Loads `tokenizer.json`, with the special tokens that `tokenizer_config.json` and `special_tokens_map.json` add.
 * @param model its folder, or the files of it
 * @throws AppError MODEL_INVALID, naming the file
 */
export async function loadTokenizer(model: string | TextFiles): Promise<Tokenizer> {
  const files = typeof model === 'string' ? new FolderFiles(model) : model;
  const [tokenizer, config, special] = await Promise.all([
    readJsonObject(files, TOKENIZER_FILE),
    readJsonObject(files, CONFIG_FILE),
    readJsonObject(files, SPECIAL_FILE),
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
  const made = new HfTokenizer(library, specialIds(library, tokenizer, config, special), makeStages);
  // The library reads much of the file only when it meets a text: what is broken should fail here, not in a request.
  for (const probe of PROBES) made.decode(made.encode(probe, true), false);
  return made;
}

const PROBES = ['', 'A probe, 1 2 3.\n', '\u00e9\u{1f642} <s>'];

/** The library's own errors say nothing of the file that they come from. */
function unusable(what: string, cause: unknown): AppError {
  return new AppError('MODEL_INVALID', `${TOKENIZER_FILE} cannot ${what}: ${(cause as Error).message}`, {
    metadata: { file: TOKENIZER_FILE },
    cause,
  });
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
    let ids: unknown[];
    try {
      ({ ids } = this.#library.encode(text, { add_special_tokens: addSpecialTokens }));
    } catch (cause) {
      throw unusable('encode this text', cause);
    }
    // A character without a token, in a vocabulary without an unknown token, leaves a hole.
    return ids.filter((id): id is number => Number.isInteger(id));
  }

  decode(ids: readonly number[], skipSpecialTokens: boolean): string {
    return decodeWhole(this.incrementalDecoder({ skipSpecialTokens }), ids);
  }

  incrementalDecoder(options: DecodeOptions): IncrementalDecoder {
    return new PipelineDecoder(this, this.#makeStages, options);
  }

  textOf(id: number): string | undefined {
    const text: unknown = this.#library.id_to_token(id);
    return typeof text === 'string' ? text : undefined;
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  idOf(token: string): number | undefined {
    return this.#library.token_to_id(token);
  }
}
