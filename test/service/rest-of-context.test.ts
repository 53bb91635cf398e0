/** Answers that may be as long as the context allows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failsWith } from '../app-error.js';
import { setup, text } from './inference-run.js';
import { memoryModel } from './memory-model.js';

const { contextLength } = memoryModel().info;
const REST = { maxNewTokens: Number.POSITIVE_INFINITY, ignoreEos: true };

test('an answer without a bound may fill the context behind its prompt', async () => {
  const { service, call, engine, settled } = setup();
  const [short, long] = await service.predict({ inputs: [text('a'), text('a b c d e')], parameters: REST }, call());
  assert.ok(short!.usage.promptTokens < long!.usage.promptTokens);
  for (const { usage, finishReason } of [short!, long!]) {
    assert.equal(usage.promptTokens + usage.completionTokens, contextLength);
    assert.equal(finishReason, 'length');
  }
  assert.deepEqual(
    engine.submitted.map(({ promptIds, maxNewTokens }) => promptIds.length + maxNewTokens),
    [contextLength, contextLength],
  );
  await settled();
});

test('where the memory of the engine holds less than the context, it is the bound', async () => {
  const { service, call, engine, settled } = setup();
  engine.maxRowTokens = 64;
  const [result] = await service.predict({ inputs: [text('a')], parameters: REST }, call());
  assert.equal(result!.usage.promptTokens + result!.usage.completionTokens, 64);
  // A prompt that it does not hold is the engine's to refuse.
  await service.predict({ inputs: [text('a'.repeat(100))], parameters: REST }, call());
  assert.equal(engine.submitted.at(-1)!.maxNewTokens, 1);
  await settled();
});

test('a prompt that leaves no room for a token is refused', async () => {
  const { service, call } = setup();
  const inputs = [{ prompt: { kind: 'tokens' as const, tokenIds: Array<number>(contextLength).fill(5) } }];
  await assert.rejects(
    service.predict({ inputs, parameters: REST }, call()),
    failsWith('CONTEXT_LENGTH_EXCEEDED', /the prompt alone leaves no room/),
  );
});
