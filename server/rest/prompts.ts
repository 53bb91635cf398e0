/** Prompts of a body: texts, or token ids, alone or in a list. */
import type { AppError } from '../errors.js';
import type { Prompt } from '../service/types.js';
import { invalidField, kindOf } from './fields.js';

/** The prompts, and whether the body had a list of them. */
export interface Prompts {
  readonly prompts: readonly Prompt[];
  readonly isList: boolean;
}

/**
 * @param value a text, a list of token ids, or a list of either
 * @param field its name in the body
 * @throws AppError INVALID_REQUEST
 */
export function readPrompts(value: unknown, field: string): Prompts {
  const wanted = 'must be a text, or a list of texts';
  if (typeof value === 'string') return { prompts: [{ kind: 'text', text: value }], isList: false };
  if (!Array.isArray(value)) throw invalidField(field, `${wanted}, not ${kindOf(value)}`);
  if (value.length === 0) throw invalidField(field, 'is an empty list; give at least one text');
  if (isTokenIds(value)) return { prompts: [{ kind: 'tokens', tokenIds: value }], isList: false };
  const prompts = value.map((entry: unknown, index): Prompt => {
    if (typeof entry === 'string') return { kind: 'text', text: entry };
    if (isTokenIds(entry)) return { kind: 'tokens', tokenIds: entry };
    if (Array.isArray(entry)) throw noTokenIds(entry, `${field}[${index}]`);
    throw invalidField(`${field}[${index}]`, `must be a text or a list of token ids, not ${kindOf(entry)}`);
  });
  return { prompts, isList: true };
}

/** What the service calls `inputs[i]`, or a token of it, as it stands in the body; undefined for other fields. */
export function promptPlace(path: string, field: string, isList: boolean): string | undefined {
  const [, index, token] = /^inputs\[(\d+)\](?:\.token_ids(\[\d+\]))?$/.exec(path) ?? [];
  return index === undefined ? undefined : `${field}${isList ? `[${index}]` : ''}${token ?? ''}`;
}

function isTokenIds(value: unknown): value is number[] {
  return Array.isArray(value) && value.length > 0 && value.every((entry) => Number.isSafeInteger(entry) && entry >= 0);
}

/** What keeps a list from being token ids. */
function noTokenIds(list: readonly unknown[], field: string): AppError {
  if (list.length === 0) return invalidField(field, 'is an empty list; give a text, or at least one token id');
  const at = list.findIndex((entry) => !isTokenIds([entry]));
  return invalidField(`${field}[${at}]`, `must be a token id, not ${kindOf(list[at])}`);
}
