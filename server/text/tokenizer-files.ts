/** Reading of the small JSON files beside a tokenizer. */
import { AppError } from '../errors.js';
import type { TextFiles } from './text-files.js';

/** A JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Reads a JSON object of the model folder.
 * @returns undefined when there is no such file
 * @throws AppError MODEL_INVALID when it cannot be read or is no JSON object
 */
export async function readJsonObject(files: TextFiles, name: string): Promise<JsonObject | undefined> {
  const text = await files.read(name);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError('MODEL_INVALID', `${name} is not valid JSON: ${(cause as Error).message}`, {
      metadata: { file: name },
      cause,
    });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new AppError('MODEL_INVALID', `${name} must hold a JSON object`, { metadata: { file: name } });
  }
  return value as JsonObject;
}

/** Keys of `tokenizer_config.json` and `special_tokens_map.json` that name one special token. */
const NAMED_TOKENS = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'];

/** The special tokens by their names, as chat templates see them: `bos_token`, `eos_token`, ... */
export function namedSpecialTokens(...sources: readonly (JsonObject | undefined)[]): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const key of NAMED_TOKENS) {
    for (const source of sources) {
      const content = contentOf(source?.[key]);
      if (content === undefined) continue;
      tokens[key] = content;
      break;
    }
  }
  return tokens;
}

/** A token is written as its text, or as an object with a `content`. */
export function contentOf(token: unknown): string | undefined {
  if (typeof token === 'string') return token;
  const content = (token as { content?: unknown } | null | undefined)?.content;
  return typeof content === 'string' ? content : undefined;
}
