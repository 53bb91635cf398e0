/** What a handler may ask the server to generate. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PredictParams } from '../../sdk/types.js';
import { AppError } from '../../server/errors.js';
import { fromParams } from '../../server/handlers/generation.js';

test('a request of a handler with a field that nothing reads is refused: the base model would have answered', () => {
  for (const [params, message] of [
    [{ inputs: 'one', adapters: 'fr' }, /a request has no field adapters; adapter names its adapter/],
    [{ inputs: [{ text: 'one', lora_name: 'fr' }] }, /an input has no field lora_name; adapter names its adapter/],
    [{ inputs: 'one', parameters: { max_new_tokens: 2 } }, /maxNewTokens would be right/],
    [{ inputs: 'one', adapter: { name: 'fr', scale: 2 } }, /has no field scale/],
  ] as unknown as [PredictParams, RegExp][]) {
    assert.throws(
      () => fromParams(params, 'm'),
      (error) => error instanceof AppError && error.reason === 'INVALID_REQUEST' && message.test(error.message),
    );
  }
  assert.deepEqual(fromParams({ inputs: 'one', adapter: [{ name: 'fr', weight: 2 }, 'de'] }, 'm').adapters, [
    { name: 'fr', weight: 2 },
    { name: 'de', weight: 1 },
  ]);
});
