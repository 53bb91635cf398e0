/** The names under which callers, their platforms, and other servers tell adapters. */
import { looksLikeAdapter, saysAdapter } from '../../sdk/adapter-names.js';

export { looksLikeAdapter, saysAdapter };

/** Header in which SageMaker's platform tells the adapter of a request. */
export const IDENTIFIER_HEADER = 'x-amzn-sagemaker-adapter-identifier';

/** Header with the attributes that platforms pass on: `key=value` parts, split at ";". */
export const CUSTOM_ATTRIBUTES = 'x-amzn-sagemaker-custom-attributes';

/** Header with a name to show for an adapter, which selects none. */
export const ALIAS_HEADER = 'x-amzn-sagemaker-adapter-alias';

/** Other attributes that choose what answers, and when. */
const CHOOSING = new Set(['model_name', 'model_version', 'x-synchronous', 'x-starting-token', 'x-max-items']);

/** Whether a name gives the weight of adapters, to other servers or in a slip. */
export function isWeight(name: string): boolean {
  return /^weights?$/i.test(name);
}

/** The `key=value` parts of {@link CUSTOM_ATTRIBUTES}, trimmed, keys in lower case. */
export function customAttributes(header: string | undefined): [key: string, value: string][] {
  const parts = (header ?? '').split(';').flatMap(withoutJoints);
  return parts.flatMap((part): [string, string][] => {
    const at = part.indexOf('=');
    return at < 0 ? [] : [[keyOf(part), part.slice(at + 1).trim()]];
  });
}

const keyOf = (part: string): string =>
  part
    .slice(0, Math.max(part.indexOf('='), 0))
    .trim()
    .toLowerCase();

/**
 * HTTP joins a header's lines with commas, which values may hold as well: a comma ends a part only where a choice follows,
 * which must not be lost in the value before it.
 */
function withoutJoints(part: string): string[] {
  const pieces: string[] = [];
  for (const piece of part.split(',')) {
    const key = keyOf(piece);
    if (pieces.length === 0 || looksLikeAdapter(key) || CHOOSING.has(key)) pieces.push(piece);
    else pieces[pieces.length - 1] += `,${piece}`;
  }
  return pieces;
}

/** A name that something is assigned to, in quotes or not, by `=`, `:` or an escaped `=`. */
const ASSIGNED = /([\w.-]+)["']?\s*(?:[=:]|%3d)/gi;

/** Names that a text assigns something to. */
export function assignedNames(text: string): string[] {
  return Array.from(text.matchAll(ASSIGNED), ([, name]) => name!);
}

/**
 * Names in {@link CUSTOM_ATTRIBUTES} beside the attribute `adapter`, with those in parts and values that are written
 * otherwise: `{"adapter": "fr"}`, or `trace=1&adapter=fr`. What they name an adapter for is not read.
 */
export function otherAttributes(header: string | undefined): string[] {
  const parts = (header ?? '').split(';').flatMap(withoutJoints);
  return parts.flatMap((part) => {
    const key = keyOf(part);
    if (key === 'adapter') return [];
    return [key === '' ? part.trim() : key.replace(/^\W+/, ''), ...assignedNames(part.slice(key.length))];
  });
}
