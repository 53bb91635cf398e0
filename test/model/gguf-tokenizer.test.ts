/** Tokenizers inside GGUF files: the ids and texts of the Hugging Face tokenizers that they were made from. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { openGguf } from '../../server/adapters/gguf/gguf-file.js';
import { endOfGeneration, tokenizerFilesOf } from '../../server/model/gguf/gguf-tokenizer.js';
import { PRE_TOKENIZERS } from '../../server/model/gguf/pre-tokenizers.js';
import { mergesByScore } from '../../server/model/gguf/spm-merges.js';
import { makeTokenizer } from '../../server/text/hf-tokenizer.js';
import { makeChatTemplate } from '../../server/text/jinja-template.js';
import { namedSpecialTokens } from '../../server/text/tokenizer-files.js';
import { int, type RawValue, rawGguf, str } from '../adapters/raw-gguf.js';
import { GOLDEN } from '../engine/golden-model.js';
import { FIXTURES } from './gguf-runner.js';

interface TokenizerCases {
  readonly encode: readonly {
    readonly text: string;
    readonly ids: number[];
    readonly ids_no_special: number[];
    readonly decoded: string;
    readonly decoded_skip_special: string;
  }[];
}
type ChatCases = readonly {
  readonly messages: { role: string; content: string }[];
  readonly add_generation_prompt: boolean;
  readonly text?: string;
}[];

const read = <T>(path: string) => JSON.parse(readFileSync(`${GOLDEN}golden/${path}`, 'utf8')) as T;

for (const name of ['llama', 'llama-rope3', 'qwen2', 'qwen3', 'gemma']) {
  describe(`tokenizer of ${name} from GGUF`, async () => {
    const file = await openGguf(`${FIXTURES}base-${name}.gguf`);
    await file.close();
    const { tokenizer: json, config } = tokenizerFilesOf(file);
    const tokenizer = makeTokenizer(json, config);

    test('ids equal the reference', () => {
      const { encode } = read<TokenizerCases>(`${name}/tokenizer_cases.json`);
      assert.ok(encode.length > 10);
      for (const { text, ids, ids_no_special, decoded, decoded_skip_special } of encode) {
        assert.deepEqual(tokenizer.encode(text, true), ids, JSON.stringify(text));
        assert.deepEqual(tokenizer.encode(text, false), ids_no_special, JSON.stringify(text));
        assert.equal(tokenizer.decode(ids, false), decoded);
        assert.equal(tokenizer.decode(ids, true), decoded_skip_special);
      }
    });

    test('the chat template renders as the reference', () => {
      const template = makeChatTemplate(config.chat_template, namedSpecialTokens(config));
      for (const { messages, add_generation_prompt, text } of read<ChatCases>(`${name}/chat_cases.json`)) {
        if (text !== undefined) assert.equal(template.render(messages, add_generation_prompt), text);
      }
    });
  });
}

interface PreTokenizerCases {
  readonly tokens: string[];
  readonly merges: string[];
  readonly texts: string[];
  readonly ways: readonly { readonly names: string[]; readonly ids: number[][] }[];
}

describe('byte-level BPE splits as the name in the file says', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
  after(() => rmSync(dir, { recursive: true }));
  const cases = JSON.parse(readFileSync(`${FIXTURES}pre-tokenizers.json`, 'utf8')) as PreTokenizerCases;
  const list = (value: readonly string[]): RawValue => ({ type: 9, of: 8, value });
  for (const { names, ids } of cases.ways) {
    for (const name of names) {
      test(name, async () => {
        const path = join(dir, `${name}.gguf`);
        const metadata = {
          'tokenizer.ggml.model': str('gpt2'),
          'tokenizer.ggml.pre': str(name),
          'tokenizer.ggml.tokens': list([...cases.tokens, '<s>']),
          'tokenizer.ggml.merges': list(cases.merges),
          'tokenizer.ggml.bos_token_id': int(cases.tokens.length),
        };
        writeFileSync(path, rawGguf({ metadata }));
        const file = await openGguf(path);
        await file.close();
        const { tokenizer: json, config } = tokenizerFilesOf(file);
        const tokenizer = makeTokenizer(json, config);
        for (const [i, text] of cases.texts.entries())
          assert.deepEqual(tokenizer.encode(text, false), ids[i], JSON.stringify(text));
      });
    }
  }

  test('every name that is read', () => {
    const tested = cases.ways.flatMap(({ names }) => names);
    assert.deepEqual(tested.sort(), Object.keys(PRE_TOKENIZERS).sort());
  });
});

describe('a SentencePiece vocabulary', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
  after(() => rmSync(dir, { recursive: true }));
  const tokens = ['<unk>', '<s>', '</s>', '<0x0A>', '▁', 'H', 'i', '▁H', '▁Hi', '<|end|>', '<|endoftext|>'];
  const types = [2, 3, 4, 6, 1, 1, 1, 1, 1, 3, 3];
  const open = async (metadata: Record<string, RawValue>) => {
    const path = join(dir, 'spm.gguf');
    const vocabulary: Record<string, RawValue> = {
      'tokenizer.ggml.model': str('llama'),
      'tokenizer.ggml.tokens': { type: 9, of: 8, value: tokens },
      'tokenizer.ggml.token_type': { type: 9, of: 5, value: types },
      'tokenizer.ggml.scores': { type: 9, of: 6, value: tokens.map((_, i) => -i) },
      'tokenizer.ggml.bos_token_id': int(1),
      'tokenizer.ggml.unknown_token_id': int(0),
    };
    writeFileSync(path, rawGguf({ metadata: { ...vocabulary, ...metadata } }));
    const file = await openGguf(path);
    await file.close();
    return file;
  };
  const encode = async (architecture: string, text: string) => {
    const { tokenizer, config } = tokenizerFilesOf(await open({ 'general.architecture': str(architecture) }));
    return makeTokenizer(tokenizer, config).encode(text, false);
  };

  test('keeps the space behind special tokens', async () => {
    assert.deepEqual(await encode('llama', 'Hi<|end|>\nHi'), [8, 9, 4, 3, 5, 6]);
  });

  test('of Phi-3 does not, but behind three of them', async () => {
    assert.deepEqual(await encode('phi3', 'Hi<|end|>\nHi</s>\nHi'), [8, 9, 8, 2, 8]);
    assert.deepEqual(await encode('phi3', 'Hi<|endoftext|>\nHi'), [8, 10, 4, 3, 5, 6]);
  });

  test('whose texts begin with tokens of the model is refused', async () => {
    const file = await open({ 'tokenizer.ggml.pre': str('chatglm-spm') });
    assert.throws(() => tokenizerFilesOf(file), /spm.gguf: tokenizer.ggml.pre "chatglm-spm" is not supported/);
  });
});

test('the special tokens of Phi-4 swallow the space on both sides, those of Phi-4-mini behind them', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'gguf-'));
  const tokens = ['H', 'i', 'Ġ', '<|user|>', '<|endoftext|>', 'HH'];
  const encode = async (architecture: string, pre: string, text: string) => {
    const path = join(dir, 'bpe.gguf');
    const metadata: Record<string, RawValue> = {
      'general.architecture': str(architecture),
      'tokenizer.ggml.model': str('gpt2'),
      'tokenizer.ggml.pre': str(pre),
      'tokenizer.ggml.tokens': { type: 9, of: 8, value: tokens },
      'tokenizer.ggml.token_type': { type: 9, of: 5, value: [1, 1, 1, 3, 3, 1] },
      'tokenizer.ggml.merges': { type: 9, of: 8, value: ['H H'] },
    };
    writeFileSync(path, rawGguf({ metadata }));
    const file = await openGguf(path);
    await file.close();
    const { tokenizer, config } = tokenizerFilesOf(file);
    return makeTokenizer(tokenizer, config).encode(text, false);
  };
  assert.deepEqual(await encode('phi3', 'dbrx', 'Hi <|user|> Hi'), [0, 1, 3, 0, 1]);
  assert.deepEqual(await encode('phi3', 'gpt-4o', 'Hi <|user|> Hi<|endoftext|> i'), [0, 1, 2, 3, 0, 1, 4, 2, 1]);
  assert.deepEqual(await encode('olmo2', 'dbrx', 'Hi <|user|> Hi'), [0, 1, 2, 3, 2, 0, 1]);
  rmSync(dir, { recursive: true });
});

test('known end-of-turn tokens end an answer beside the one that the file names', async () => {
  const file = await openGguf(`${FIXTURES}base-qwen2.gguf`);
  await file.close();
  assert.deepEqual(endOfGeneration(file), [349, 347]);
});

test('scores become merges, best first, through every cut into known parts', () => {
  const tokens = [
    { id: 0, text: 'a', score: -9 },
    { id: 1, text: 'b', score: -9 },
    { id: 2, text: 'ab', score: -2 },
    { id: 3, text: 'aba', score: -3 },
    { id: 4, text: 'ba', score: -1 },
  ];
  assert.deepEqual(mergesByScore(tokens), [
    ['b', 'a'],
    ['a', 'b'],
    ['a', 'ba'],
    ['ab', 'a'],
  ]);
});
