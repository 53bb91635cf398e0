/** Tokenizers inside GGUF files: the ids and texts of the Hugging Face tokenizers that they were made from. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { openGguf } from '../../server/adapters/gguf/gguf-file.js';
import { endOfGeneration, tokenizerFilesOf } from '../../server/model/gguf/gguf-tokenizer.js';
import { mergesByScore } from '../../server/model/gguf/spm-merges.js';
import { makeTokenizer } from '../../server/text/hf-tokenizer.js';
import { makeChatTemplate } from '../../server/text/jinja-template.js';
import { namedSpecialTokens } from '../../server/text/tokenizer-files.js';
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
