/**
 * Which special tokens swallow the white space beside them. Files do not say; of the architectures that are read, those
 * of the Phi-3 line have such tokens, and the kind of tokenizer tells which of them a file has.
 */
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';

/** The sides of an added token, as `tokenizer.json` has them. */
export interface TokenSides {
  readonly lstrip: boolean;
  readonly rstrip: boolean;
}

const NEITHER: TokenSides = { lstrip: false, rstrip: false };
const RIGHT: TokenSides = { lstrip: false, rstrip: true };
const BOTH: TokenSides = { lstrip: true, rstrip: true };

/** Tokens of Phi-3 that leave the space behind them. */
const PHI3_KEEP = new Set(['<unk>', '<s>', '<|endoftext|>']);
/** Tokens of Phi-4-mini that swallow it. */
const PHI4_MINI = new Set(['<|user|>', '<|assistant|>', '<|system|>', '<|end|>']);

/** What the added tokens of a file do. */
export function tokenSides({ metadata }: GgufFile): (token: string) => TokenSides {
  if (metadata.get('general.architecture') !== 'phi3') return () => NEITHER;
  if (metadata.get('tokenizer.ggml.model') === 'llama') return (token) => (PHI3_KEEP.has(token) ? NEITHER : RIGHT);
  const pre = metadata.get('tokenizer.ggml.pre');
  if (pre === 'gpt-4o') return (token) => (PHI4_MINI.has(token) ? RIGHT : NEITHER);
  return () => (pre === 'dbrx' ? BOTH : NEITHER); // Phi-4's is called so
}
