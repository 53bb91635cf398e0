/**
 * Byte-level BPE splits a text before it merges; a GGUF file names the way (`tokenizer.ggml.pre`) and readers must know
 * it. These are the patterns of the models' own tokenizer.json files.
 */

/** How a text is prepared, as `tokenizer.json` has it. */
export interface PreTokenizer {
  /** Splits one after another; what a pattern does not match stays whole between the matches. */
  readonly patterns: readonly string[];
  readonly normalizer?: { readonly type: 'NFC' };
  /** True: a piece that is a token as a whole is not merged from its parts. */
  readonly ignoreMerges?: boolean;
  /** Whether the beginning-of-sequence token is added where the file does not say. */
  readonly addBos?: boolean;
}

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const words = (numbers: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** Words in which capitals come first (o200k, Tekken), with what may follow them. */
const cased = (suffix: string, numbers: string) => {
  const [upper, lower] = ['[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]', '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'];
  const before = '[^\\r\\n\\p{L}\\p{N}]?';
  return `${before}${upper}*${lower}+${suffix}|${before}${upper}+${lower}*${suffix}|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
};

const NFC = { type: 'NFC' } as const;

const gpt2: PreTokenizer = { patterns: [GPT2] };
/** GPT-NeoX and its kin. */
const neox: PreTokenizer = { patterns: [GPT2], normalizer: NFC };
/** Every digit alone. */
const digits: PreTokenizer = { patterns: ['\\p{N}', GPT2] };
/** Numbers in groups of up to three. */
const llama3: PreTokenizer = { patterns: [words('\\p{N}{1,3}')], ignoreMerges: true, addBos: true };
const qwen2: PreTokenizer = { patterns: [words('\\p{N}')], normalizer: NFC };
const o200k: PreTokenizer = { patterns: [cased("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", '\\p{N}{1,3}')] };
/** What llama.cpp does where a file names nothing. */
const fallback: PreTokenizer = { patterns: ['[\\p{P}\\$\\+<=>\\^~\\|]+', GPT2, '\\p{N}+', '[0-9][0-9][0-9]'] };

/** By `tokenizer.ggml.pre`. */
export const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  default: fallback,
  'gpt-2': gpt2,
  smollm: digits,
  starcoder: digits,
  refact: digits,
  'command-r': { patterns: digits.patterns, normalizer: NFC },
  'phi-2': gpt2,
  exaone4: gpt2,
  olmo: neox,
  mpt: neox,
  'llama-bpe': llama3,
  'llama-v3': llama3,
  llama3,
  'smaug-bpe': { patterns: llama3.patterns },
  dbrx: { patterns: llama3.patterns },
  qwen2,
  'deepseek-r1-qwen': qwen2,
  stablelm2: { patterns: qwen2.patterns },
  'chatglm-bpe': { patterns: llama3.patterns },
  glm4: { patterns: llama3.patterns, ignoreMerges: true },
  'gpt-4o': o200k,
  llama4: o200k,
  tekken: { patterns: [cased('', '\\p{N}')], ignoreMerges: true, addBos: true },
  'seed-coder': {
    patterns: [
      "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    ],
  },
};
