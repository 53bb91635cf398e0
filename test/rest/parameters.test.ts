import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readParameters } from '../../server/rest/parameters.js';

test('the defaults are those of the LMI schema: 30 tokens, greedy, no details', () => {
  const parameters = readParameters(undefined);
  assert.deepEqual(parameters.generation, { maxNewTokens: 30, temperature: 0 });
  assert.equal(parameters.details, false);
  assert.deepEqual(readParameters({ max_new_tokens: null, details: null }), parameters);
});

test('do_sample decides over the temperature, and a temperature alone samples', () => {
  const temperature = (given: object) => readParameters(given).generation.temperature;
  assert.equal(temperature({ do_sample: true }), 1);
  assert.equal(temperature({ do_sample: true, temperature: 0.7 }), 0.7);
  assert.equal(temperature({ do_sample: false, temperature: 0.7 }), 0);
  assert.equal(temperature({ temperature: 0.7 }), 0.7);
});

test('every parameter reaches the service under its name there', () => {
  const { generation } = readParameters({
    max_new_tokens: 5,
    do_sample: true,
    temperature: 0.5,
    top_k: -1,
    top_p: 0.9,
    min_p: 0.1,
    repetition_penalty: 1.1,
    presence_penalty: 0.2,
    frequency_penalty: 0.3,
    seed: 42,
    stop_sequences: ['a'],
    stop: 'b',
    stop_token_ids: [3],
    ignore_eos_token: true,
    return_full_text: true,
    logprobs: 2,
    n: 2,
    best_of: 3,
    truncate: 9,
    typical_p: 0.8,
    logit_bias: { 7: -1.5 },
    prompt_logprobs: 1,
  });
  assert.deepEqual(generation, {
    maxNewTokens: 5,
    temperature: 0.5,
    topK: 0,
    topP: 0.9,
    minP: 0.1,
    repetitionPenalty: 1.1,
    presencePenalty: 0.2,
    frequencyPenalty: 0.3,
    seed: 42,
    stop: ['a', 'b'],
    stopTokenIds: [3],
    ignoreEos: true,
    returnFullText: true,
    logprobs: 2,
    n: 2,
    bestOf: 3,
    truncate: 9,
    typicalP: 0.8,
    logitBias: new Map([[7, -1.5]]),
    promptLogprobs: 1,
  });
  assert.equal(readParameters({ ignore_eos: true }).generation.ignoreEos, true);
});

test('details ask for the log-probability of each token', () => {
  assert.equal(readParameters({ details: true }).generation.logprobs, 0);
  assert.equal(readParameters({ top_n_tokens: 3 }).generation.logprobs, 3);
  assert.equal(readParameters({}).generation.logprobs, undefined);
});

test('several answers and the prompt’s tokens have their place in the details', () => {
  assert.equal(readParameters({ n: 2 }).details, true);
  assert.equal(readParameters({ best_of: 2 }).details, true);
  assert.equal(readParameters({ n: 1, best_of: 1 }).details, false);
  const { details, generation } = readParameters({ decoder_input_details: true });
  assert.deepEqual([details, generation.promptLogprobs], [true, 0]);
  assert.equal(readParameters({ num_return_sequences: 4 }).generation.n, 4);
  assert.equal(readParameters({ n: 4, num_return_sequences: 4 }).generation.n, 4);
  assert.throws(
    () => readParameters({ n: 2, num_return_sequences: 4 }),
    /parameters.num_return_sequences must be what n is, which is another name of it/,
  );
});

test('unknown names are told, not dropped in silence', () => {
  assert.deepEqual(readParameters({ max_tokens: 5, length_penalty: 0.9 }).ignored, ['max_tokens', 'length_penalty']);
});

test('a wrong type is refused with the name of the parameter', () => {
  for (const [given, message] of [
    [7, /^parameters must be an object, not 7/],
    [{ max_new_tokens: '5' }, /^parameters\.max_new_tokens must be a number/],
    [{ max_new_tokens: 1.5 }, /^parameters\.max_new_tokens must be a whole number/],
    [{ details: 'yes' }, /^parameters\.details must be true or false/],
    [{ stop: ['a', 1] }, /^parameters\.stop\[1\] must be a text/],
    [{ logit_bias: [1] }, /^parameters\.logit_bias must be an object/],
    [{ logit_bias: { a: 1 } }, /^parameters\.logit_bias must have token ids as its keys, not "a"/],
    [{ logit_bias: { 7: '1' } }, /^parameters\.logit_bias\[7\] must be a number/],
    [{ stop_token_ids: [-1] }, /^parameters\.stop_token_ids\[0\] must be a token id/],
  ] as const) {
    assert.throws(() => readParameters(given), { reason: 'INVALID_REQUEST', message });
  }
  assert.throws(() => readParameters({ num_beams: 4 }), { reason: 'UNIMPLEMENTED' });
  assert.doesNotThrow(() => readParameters({ n: 1, num_beams: 1 }));
});
