/** Reading prompts takes the thread that all requests share. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planRows } from '../../server/service/plan-rows.js';
import type { PredictInput } from '../../server/service/types.js';
import { failsWith } from '../app-error.js';
import { text } from './inference-run.js';
import { memoryModel } from './memory-model.js';

/** The model, with the lengths of the texts that were encoded, and what is done before each. */
function watched(before: () => void = () => {}) {
  const model = memoryModel();
  const lengths: number[] = [];
  const { tokenizer } = model;
  const encode = (one: string, special: boolean): number[] => {
    before();
    lengths.push(one.length);
    return tokenizer.encode(one, special);
  };
  const bound = Object.create(tokenizer, { encode: { value: encode } });
  for (const name of ['decode', 'incrementalDecoder', 'isSpecial', 'idOf'] as const) {
    Object.defineProperty(bound, name, { value: tokenizer[name].bind(tokenizer) });
  }
  return { model: { ...model, tokenizer: bound }, lengths };
}

const long = 'A word and '.repeat(100_000);

test('a prompt that is far too long is refused after its beginning', async () => {
  const { model, lengths } = watched();
  const chat: PredictInput = { prompt: { kind: 'chat', messages: [{ role: 'user', content: long }] } };
  for (const input of [text(long), chat]) {
    await assert.rejects(planRows({ inputs: [input] }, model, 1), failsWith('CONTEXT_LENGTH_EXCEEDED'));
  }
  await assert.rejects(
    planRows({ inputs: [text(long)] }, model, 1),
    /inputs\[0\]: the prompt has more than \d+ tokens, but the context holds 256 \(truncate keeps its last tokens\)/,
  );
  assert.ok(Math.max(...lengths) < 16 * 256, `${lengths}`);
});

test('a prompt of which only the last tokens are wanted is read as a whole', async () => {
  const { model, lengths } = watched();
  const [row] = await planRows({ inputs: [text(`${long}end`)], parameters: { truncate: 8 } }, model, 1);
  assert.deepEqual(lengths, [long.length + 3]);
  assert.deepEqual(row!.promptIds, memoryModel().tokenizer.encode(`${long}end`, true).slice(-8));
});

test('other work has its turns while the prompts of a large request are read', async () => {
  let turns = 0;
  let reading = true;
  const turn = (): void => {
    turns += 1;
    if (reading) setImmediate(turn);
  };
  setImmediate(turn);
  const busy = (): void => {
    for (const end = performance.now() + 25; performance.now() < end; );
  };
  const { model } = watched(busy);
  const rows = await planRows({ inputs: Array.from({ length: 8 }, () => text('a')) }, model, 8);
  reading = false;
  assert.equal(rows.length, 8);
  assert.ok(turns >= 7, `${turns}`);
});
