/**
 * The tokenizer inside a GGUF file, as the `tokenizer.json` and `tokenizer_config.json` that the model's folder would
 * have. Two kinds are read: byte-level BPE (`gpt2`) and SentencePiece BPE with byte fallback (`llama`).
 */
import type { GgufFile } from '../../adapters/gguf/gguf-file.js';
import { PRE_TOKENIZERS } from './pre-tokenizers.js';
import { mergesByScore } from './spm-merges.js';
import { tokenSides } from './token-spaces.js';

/** Contents of the files that a folder would have. */
export interface TokenizerFiles {
  readonly tokenizer: Readonly<Record<string, unknown>>;
  /** With the special tokens by name and the chat template. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** Longest token of a vocabulary with scores: each is cut in two at every place. */
const MAX_TOKEN_LENGTH = 1_024;

/** `tokenizer.ggml.token_type`. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

/** Control tokens that end an answer whatever the file calls its end of sequence, as in llama.cpp. */
const ENDS = new Set(
  '<|eot_id|> <|eom_id|> <|im_end|> <|end|> <end_of_turn> <|endoftext|> <|end_of_text|> <EOT> <eos>'.split(' '),
);

/** Ids that end an answer. */
export function endOfGeneration(file: GgufFile): number[] {
  const tokens = tokensOf(file);
  const types = typesOf(file, tokens.length);
  const named = ['eos', 'eot', 'eom'].map((name) => idOf(file, name, tokens.length));
  const known = tokens.flatMap((text, id) => (types[id] === CONTROL && ENDS.has(text) ? [id] : []));
  return [...new Set([...named.filter((id) => id !== undefined), ...known])];
}

/** The tokenizer in the form of the Hugging Face files. Throws MODEL_INVALID for a kind that is not read. */
export function tokenizerFilesOf(file: GgufFile): TokenizerFiles {
  const tokens = tokensOf(file);
  const types = typesOf(file, tokens.length);
  const kind = file.metadata.get('tokenizer.ggml.model');
  if (kind !== 'gpt2' && kind !== 'llama') {
    throw file.fail(`tokenizer.ggml.model ${JSON.stringify(kind ?? null)} is not supported; gpt2 and llama are`);
  }
  const pre = file.metadata.get('tokenizer.ggml.pre');
  if (kind === 'llama' && pre === 'chatglm-spm') {
    throw file.fail(
      'tokenizer.ggml.pre "chatglm-spm" is not supported: such texts begin with tokens that no file names',
    );
  }
  const parts = kind === 'gpt2' ? byteLevel(file, tokens) : sentencePiece(file, tokens, types);
  const special = (id: number) => types[id] === CONTROL || types[id] === UNKNOWN;
  const sides = tokenSides(file);
  const added = tokens.flatMap((content, id) =>
    special(id) || types[id] === USER_DEFINED
      ? [{ id, content, single_word: false, ...sides(content), normalized: false, special: special(id) }]
      : [],
  );
  const { addBos, ...sections } = parts;
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      post_processor: template(file, tokens, addBos),
      ...sections,
    },
    config: { ...namedTokens(file, tokens), chat_template: chatTemplate(file), clean_up_tokenization_spaces: false },
  };
}

interface Sections {
  readonly normalizer: unknown;
  readonly pre_tokenizer: unknown;
  readonly decoder: unknown;
  readonly model: unknown;
  readonly addBos: boolean;
}

const BPE = { type: 'BPE', dropout: null, continuing_subword_prefix: null, end_of_word_suffix: null };

function byteLevel(file: GgufFile, tokens: readonly string[]): Sections {
  const name = file.metadata.get('tokenizer.ggml.pre') ?? 'default';
  const pre = typeof name === 'string' && Object.hasOwn(PRE_TOKENIZERS, name) ? PRE_TOKENIZERS[name] : undefined;
  if (pre === undefined) {
    throw file.fail(
      `tokenizer.ggml.pre ${JSON.stringify(name)} is not supported; ${Object.keys(PRE_TOKENIZERS).join(', ')} are`,
    );
  }
  const vocabulary = new Map(tokens.map((text, id) => [text, id]));
  const merges = texts(file, 'tokenizer.ggml.merges').map((merge): [string, string] => {
    const space = merge.indexOf(' ', 1);
    const pair: [string, string] = [merge.slice(0, space), merge.slice(space + 1)];
    // The text would be lost: nothing could be looked up for what the merge makes.
    if (space < 0 || !vocabulary.has(pair.join(''))) {
      throw file.fail(`tokenizer.ggml.merges: ${JSON.stringify(merge)} makes no token of the vocabulary`);
    }
    return pair;
  });
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  const split = (regex: string) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });
  return {
    normalizer: pre.normalizer ?? null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...pre.patterns.map(split), bytes] },
    decoder: { ...bytes, use_regex: true },
    model: {
      ...BPE,
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges ?? false,
      vocab: Object.fromEntries(vocabulary),
      merges,
    },
    addBos: pre.addBos ?? false,
  };
}

function sentencePiece(file: GgufFile, tokens: readonly string[], types: ArrayLike<number>): Sections {
  const scores = file.metadata.get('tokenizer.ggml.scores');
  if (!(scores instanceof Float32Array) || scores.length !== tokens.length) {
    throw file.fail(`tokenizer.ggml.scores must hold ${tokens.length} numbers`);
  }
  const long = tokens.findIndex((text) => text.length > MAX_TOKEN_LENGTH);
  if (long >= 0) throw file.fail(`token ${long} has ${tokens[long]!.length} characters; at most ${MAX_TOKEN_LENGTH}`);
  const prefix = file.metadata.get('tokenizer.ggml.add_space_prefix') !== false;
  const unknown = idOf(file, 'unknown', tokens.length);
  const merged = tokens.flatMap((text, id) =>
    types[id] === NORMAL || types[id] === USER_DEFINED ? [{ id, text, score: scores[id]! }] : [],
  );
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const back = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const decoders = [back, { type: 'ByteFallback' }, { type: 'Fuse' }];
  return {
    normalizer: prefix ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, spaces] } : spaces,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: prefix ? [...decoders, { type: 'Strip', content: ' ', start: 1, stop: 0 }] : decoders,
    },
    model: {
      ...BPE,
      unk_token: unknown === undefined ? null : tokens[unknown],
      fuse_unk: true,
      byte_fallback: true,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((text, id) => [text, id])),
      merges: mergesByScore(merged),
    },
    addBos: true,
  };
}

/** What is put around a text: the tokens at its ends that the file asks for. */
function template(file: GgufFile, tokens: readonly string[], addBos: boolean): unknown {
  const around = (key: string, name: string, fallback: boolean): string | undefined => {
    const wanted = file.metadata.get(`tokenizer.ggml.${key}`) ?? fallback;
    const id = idOf(file, name, tokens.length);
    if (wanted === true && id === undefined)
      throw file.fail(`tokenizer.ggml.${key} is set, but there is no such token`);
    return wanted === true ? tokens[id!] : undefined;
  };
  const bos = around('add_bos_token', 'bos', addBos);
  const eos = around('add_eos_token', 'eos', false);
  const token = (text: string | undefined) => (text === undefined ? [] : [{ SpecialToken: { id: text, type_id: 0 } }]);
  const sequence = (id: string) => [...token(bos), { Sequence: { id, type_id: 0 } }, ...token(eos)];
  const used = [...new Set([bos, eos].filter((text) => text !== undefined))];
  return {
    type: 'TemplateProcessing',
    single: sequence('A'),
    pair: [...sequence('A'), ...sequence('B')],
    special_tokens: Object.fromEntries(
      used.map((text) => [text, { id: text, ids: [tokens.indexOf(text)], tokens: [text] }]),
    ),
  };
}

/** `bos_token`, `eos_token`, ... as chat templates see them. */
function namedTokens(file: GgufFile, tokens: readonly string[]): Record<string, string> {
  const names = { bos_token: 'bos', eos_token: 'eos', unk_token: 'unknown', pad_token: 'padding' };
  const named: Record<string, string> = {};
  for (const [key, name] of Object.entries(names)) {
    const id = idOf(file, name, tokens.length);
    if (id !== undefined) named[key] = tokens[id]!;
  }
  return named;
}

function chatTemplate(file: GgufFile): string | null {
  const value = file.metadata.get('tokenizer.chat_template');
  if (value !== undefined && typeof value !== 'string') throw file.fail('tokenizer.chat_template is no text');
  return value ?? null;
}

function idOf(file: GgufFile, name: string, vocabulary: number): number | undefined {
  const key = `tokenizer.ggml.${name}_token_id`;
  const value = file.metadata.get(key);
  // -1 in 32 bits is how llama.cpp writes that there is none.
  if (value === undefined || value === 0xffffffff || value === -1) return undefined;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value >= vocabulary) {
    throw file.fail(`${key} is ${JSON.stringify(value)}; the vocabulary has ${vocabulary} tokens`);
  }
  return value;
}

function tokensOf(file: GgufFile): readonly string[] {
  const tokens = texts(file, 'tokenizer.ggml.tokens');
  const rows = file.tensors.get('token_embd.weight')?.shape[0] ?? tokens.length;
  if (tokens.length > rows) throw file.fail(`${tokens.length} tokens, but token_embd.weight has ${rows} rows`);
  return tokens;
}

function texts(file: GgufFile, key: string): readonly string[] {
  const value = file.metadata.get(key);
  if (!Array.isArray(value) || value.length === 0) throw file.fail(`${key} is missing; a list of texts would be right`);
  return value as readonly string[];
}

/** The kind of every token; where the file names none, those with a role of their own are control tokens. */
function typesOf(file: GgufFile, count: number): ArrayLike<number> {
  const types = file.metadata.get('tokenizer.ggml.token_type');
  if (types === undefined) {
    const all = new Int32Array(count).fill(NORMAL);
    for (const name of ['bos', 'eos', 'padding']) {
      const id = idOf(file, name, count);
      if (id !== undefined) all[id] = CONTROL;
    }
    return all;
  }
  if (!(types instanceof Int32Array || types instanceof Uint32Array) || types.length !== count) {
    throw file.fail(`tokenizer.ggml.token_type must hold ${count} integers`);
  }
  return types;
}
