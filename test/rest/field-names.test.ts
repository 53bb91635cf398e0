/** What is wrong with a request is told by the names that its body, or its schema, has for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoramuxClient } from '../../sdk/index.js';
import { startServer } from './served.js';

test('a broken field is told by the name that the body gave it', async (t) => {
  const url = await startServer(t, ['--log-level', 'error']);
  const post = async (body: object) => {
    const response = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    assert.equal(response.status, 400, JSON.stringify(body));
    const { message, violations } = (await response.json()) as { message: string; violations: { field: string }[] };
    const [{ field }] = violations as [{ field: string }];
    assert.ok(message.startsWith(field), `${message} is about ${field}`);
    return field;
  };
  const messages = [{ role: 'user', content: 'Hello' }];
  const twice = [{ name: 'pirate' }, { name: 'pirate' }];
  for (const [body, field] of [
    [{ messages, max_tokens: 0 }, 'max_tokens'],
    [{ messages, max_completion_tokens: 0 }, 'max_completion_tokens'],
    [{ messages, max_tokens: 5000 }, 'messages'],
    [{ messages: [] }, 'messages'],
    [{ messages, truncate_prompt_tokens: 0 }, 'truncate_prompt_tokens'],
    [{ messages, logprobs: true, top_logprobs: 300 }, 'top_logprobs'],
    [{ messages, adapters: twice }, 'adapters[1].name'],
    [{ messages, temperature: -1 }, 'temperature'],
    [{ prompt: 'Hello', max_tokens: 0 }, 'max_tokens'],
    [{ prompt: 'Hello', max_tokens: 5000 }, 'prompt'],
    [{ prompt: ['Hello', 'Hello '.repeat(2000)] }, 'prompt[1]'],
    [{ prompt: 'Hello', logprobs: 300 }, 'logprobs'],
    [{ prompt: [] }, 'prompt'],
    [{ inputs: 'Hello', parameters: { max_new_tokens: 0 } }, 'parameters.max_new_tokens'],
    [{ inputs: 'Hello', parameters: { max_new_tokens: 5000 } }, 'inputs'],
    [{ inputs: ['Hello'], parameters: { max_new_tokens: 5000 } }, 'inputs[0]'],
    [{ inputs: 'Hello', parameters: { stop_sequences: ['a', ''] } }, 'parameters.stop_sequences[1]'],
    [{ inputs: 'Hello', parameters: { stop_sequences: ['a'], stop: [''] } }, 'parameters.stop[0]'],
    [{ inputs: 'Hello', parameters: { num_return_sequences: 0 } }, 'parameters.num_return_sequences'],
    [{ inputs: 'Hello', stream: true, parameters: { n: 1, best_of: 2 } }, 'parameters.best_of'],
    [{ inputs: 'Hello', adapters: twice }, 'adapters[1].name'],
    [{ inputs: ['Hello'], adapters: [twice] }, 'adapters[0][1].name'],
    [{ inputs: [1, 99999] }, 'inputs[1]'],
    [{ inputs: [[1, 99999]] }, 'inputs[0][1]'],
    [{ inputs: ['Hello', [1, -1]] }, 'inputs[1][1]'],
    [{ inputs: [[]] }, 'inputs[0]'],
  ] as const) {
    assert.equal(await post(body), field, JSON.stringify(body).slice(0, 100));
  }

  const client = new LoramuxClient({ baseUrl: url, maxRetries: 0 });
  const selection = ['pirate', 'pirate'];
  for (const [params, field] of [
    [{ inputs: 'Hello', adapter: selection }, 'selection.adapters[1].name'],
    [{ inputs: [{ text: 'Hello', adapter: selection }] }, 'inputs[0].selection.adapters[1].name'],
    [{ inputs: [[1, 99999]] }, 'inputs[0].token_ids.ids[1]'],
    [{ inputs: [{ messages: [{ role: '', content: 'a' }] }] }, 'inputs[0].chat.messages[0].role'],
  ] as const) {
    await assert.rejects(client.predict(params), (error: Error & { violations: { field: string }[] }) => {
      assert.equal(error.violations[0]?.field, field);
      assert.ok(error.message.includes(`${field}: `), error.message);
      return true;
    });
  }
  await assert.rejects(
    client.models.register({ url: '/m', name: 'a b' }),
    /^InvalidRequestError: name "a b" is no usable/,
  );
});
