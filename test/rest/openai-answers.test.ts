/** The fields of chat and completions answers that clients of OpenAI's API look at. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { postJson, serve } from './http.js';
import { memoryServices } from './memory-services.js';

const messages = [{ role: 'user', content: 'Hi' }];

/** Chunks of a stream, without its end. */
async function chunksOf(answer: Response): Promise<{ model?: string; choices: object[] }[]> {
  const events = (await answer.text()).split('\n\n').filter(Boolean);
  assert.equal(events.pop(), 'data: [DONE]');
  return events.map((event) => JSON.parse(event.slice(6)));
}

test('an answer has the name that the request gave as its model where that is an adapter, else the name of the model', async (t) => {
  const url = await serve(t, memoryServices());
  const cases: [more: object, name: string][] = [
    [{ model: 'one' }, 'one'],
    [{ model: 'one', adapters: 'one' }, 'one'],
    [{ model: 'base' }, 'base'],
    [{ model: '' }, 'base'],
    [{}, 'base'],
    [{ adapters: 'one' }, 'base'],
    [{ model: 'base', adapters: 'one' }, 'base'],
    // Nothing reads such a name where something else says what answers.
    [{ model: 'gpt-4o', adapters: 'one' }, 'base'],
  ];
  for (const [more, name] of cases) {
    for (const input of [{ messages }, { prompt: ['a', 'b'] }]) {
      const label = JSON.stringify({ ...more, ...input });
      const body = { ...input, ...more, max_tokens: 3 };
      const path = `${url}/v1/${'messages' in input ? 'chat/' : ''}completions`;
      const whole = await postJson(path, body);
      assert.equal(((await whole.json()) as { model: string }).model, name, label);
      const chunks = await chunksOf(await postJson(path, { ...body, stream: true }));
      assert.deepEqual([...new Set(chunks.map(({ model }) => model))], [name], label);
    }
  }
});

test('where another place decides about the adapter, the name in the answer is not that of the body', async (t) => {
  const url = await serve(t, memoryServices(), { compat: 'djl' });
  const answer = await postJson(`${url}/v1/chat/completions?adapter=two`, { messages, model: 'one', max_tokens: 3 });
  assert.match(answer.headers.get('x-loramux-adapter')!, /^two@/);
  assert.equal(((await answer.json()) as { model: string }).model, 'base');
});
