/**
 * The tokens that the tokenizer beside an adapter adds, for adapters with a vocabulary of their own. Only their texts and
 * ids are taken: the rest of that tokenizer is the base's.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.js';
import { readInside } from './source.js';
import { isJsonObject, type JsonObject, type JsonValue, parseStrictJson } from './strict-json.js';

/** Longest tokenizer file that is read: that of a vocabulary of some 250,000 tokens. */
const MAX_FILE_BYTES = 64 * 1024 * 1024;
const MAX_TOKENS = 65_536;
const MAX_CONTENT = 1000;

/** A token that is looked for in a text before the text is split into others. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** True: adds no text to an answer. */
  readonly special: boolean;
  /** True: the adapter's tokenizer calls it the end of a sequence. */
  readonly ends: boolean;
}

async function readObject(folder: string, name: string, roots: readonly string[]): Promise<JsonObject | undefined> {
  const there = await stat(join(folder, name)).then(
    () => true,
    () => false,
  );
  if (!there) return undefined;
  const fail = (what: string) => new AppError('ADAPTER_INVALID', `${name}: ${what}`);
  const text = await readInside(folder, name, roots, MAX_FILE_BYTES);
  let root: JsonValue;
  try {
    root = parseStrictJson(text);
  } catch (error) {
    throw fail(`not valid JSON: ${(error as Error).message}`);
  }
  if (!isJsonObject(root)) throw fail('not a JSON object');
  return root;
}

/**
 * Reads `added_tokens` of the adapter's `tokenizer.json` as far as their ids are below `size`, by ascending id; none where
 * the folder has no such file. `eos_token` of `tokenizer_config.json` says which one ends.
 * @throws AppError ADAPTER_INVALID naming the file and the entry; ADAPTER_SOURCE_FORBIDDEN
 */
export async function readAddedTokens(folder: string, roots: readonly string[], size: number): Promise<AddedToken[]> {
  const list = (await readObject(folder, 'tokenizer.json', roots))?.added_tokens ?? [];
  const config = await readObject(folder, 'tokenizer_config.json', roots);
  const named = config?.eos_token;
  const end = isJsonObject(named) ? named.content : named;
  const fail = (what: string) => new AppError('ADAPTER_INVALID', `tokenizer.json: added_tokens${what}`);
  if (!Array.isArray(list)) throw fail(' is not a list');
  if (list.length > MAX_TOKENS) throw fail(` has ${list.length} entries; at most ${MAX_TOKENS} are read`);
  const tokens: AddedToken[] = [];
  for (const [index, entry] of list.entries()) {
    const { id, content, special } = isJsonObject(entry) ? entry : {};
    const named = typeof content === 'string' && content !== '' && content.length <= MAX_CONTENT;
    if (!named || !Number.isSafeInteger(id) || (id as number) < 0) {
      throw fail(`[${index}] is not {"id": number, "content": text of 1 to ${MAX_CONTENT} characters}`);
    }
    if ((id as number) >= size) continue;
    tokens.push({ id: id as number, content, special: special === true, ends: content === end });
  }
  return tokens.sort((a, b) => a.id - b.id);
}
