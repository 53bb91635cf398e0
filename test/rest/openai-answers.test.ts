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

test('of several models the field model names the one that answers below /v1, where nothing else does', async (t) => {
  const several = await serve(t, memoryServices(['base', 'other']));
  const ask = async (query: string, body: object, path = '/v1/chat/completions') => {
    const answer = await postJson(several + path + query, { messages, max_tokens: 2, ...body });
    const { model, reason } = (await answer.json()) as { model?: string; reason?: string };
    return [answer.status, reason ?? model, answer.headers.get('x-loramux-adapter')?.slice(0, 4)];
  };
  for (const name of ['base', 'other']) assert.deepEqual(await ask('', { model: name }), [200, name, 'base']);
  assert.deepEqual(await ask('', { model: 'other', adapters: 'one' }), [200, 'other', 'one@']);
  assert.deepEqual(await ask('?model_name=other', { model: 'other' }), [200, 'other', 'base']);
  assert.deepEqual(await ask('?model_name=base', { model: 'one' }), [200, 'one', 'one@']);
  // An adapter's name does not tell whose adapter is meant, and a model's name is none where another one is asked.
  assert.deepEqual(await ask('', { model: 'one' }), [400, 'INVALID_REQUEST', undefined]);
  assert.deepEqual(await ask('', {}), [400, 'INVALID_REQUEST', undefined]);
  assert.deepEqual(await ask('?model_name=base', { model: 'other' }), [424, 'ADAPTER_NOT_REGISTERED', undefined]);
  assert.deepEqual(await ask('', { model: 'other' }, '/invocations'), [400, 'INVALID_REQUEST', undefined]);
});

test('a stream that is asked for its usage ends with a chunk of it, which all inputs and answers count in', async (t) => {
  const url = await serve(t, memoryServices());
  const options = { stream: true, stream_options: { include_usage: true } };
  for (const [path, body] of [
    ['/v1/completions', { prompt: ['a', 'b b b'], max_tokens: 3 }],
    ['/v1/chat/completions', { messages, max_tokens: 3 }],
    ['/invocations', { messages, max_tokens: 3 }],
  ] as const) {
    const { usage } = (await (await postJson(url + path, body)).json()) as { usage: object };
    const answer = await postJson(url + path, { ...body, ...options });
    assert.equal(answer.headers.get('x-loramux-ignored'), null);
    const chunks = await chunksOf(answer);
    const last = chunks.pop() as { choices: object[]; usage: object };
    assert.deepEqual([last.choices, last.usage], [[], usage], path);
    assert.ok(chunks.length > 3);
    for (const chunk of chunks) assert.ok('usage' in chunk && chunk.usage === null);
  }
  for (const stream_options of [null, {}, { include_usage: false }]) {
    const chunks = await chunksOf(
      await postJson(`${url}/v1/completions`, { prompt: 'a', stream: true, stream_options }),
    );
    for (const chunk of chunks) assert.ok(!('usage' in chunk));
  }
});

test('a chat without max_tokens goes on to its end or that of the context, a completion has 16 tokens', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const ask = async (path: string, body: object) => {
    const { choices, usage } = (await (await postJson(url + path, body)).json()) as {
      choices: { finish_reason: string }[];
      usage: { completion_tokens: number };
    };
    return [choices[0]!.finish_reason, usage.completion_tokens];
  };
  const long = [{ role: 'user', content: 'EOS@100' }];
  assert.deepEqual(await ask('/v1/chat/completions', { messages: long }), ['stop', 101]);
  assert.deepEqual(await ask('/v1/chat/completions', { messages: long, max_tokens: null }), ['stop', 101]);
  assert.deepEqual(await ask('/v1/chat/completions', { messages }), ['length', 256]);
  assert.deepEqual(await ask('/v1/chat/completions', { messages, max_completion_tokens: 7 }), ['length', 7]);
  assert.deepEqual(await ask('/v1/completions', { prompt: 'EOS@100' }), ['length', 16]);
});

test('a prompt of a completion may be token ids, alone or in a list', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const ids = [5, 6, 7];
  for (const [prompt, count] of [
    [ids, 1],
    [[ids], 1],
    [[ids, 'a', [8]], 3],
  ] as const) {
    const answer = await postJson(`${url}/v1/completions`, { prompt, model: 'one', max_tokens: 2 });
    assert.equal(((await answer.json()) as { choices: object[] }).choices.length, count);
    const { inputs } = services.requests.at(-1)!;
    assert.deepEqual(inputs[0], {
      prompt: { kind: 'tokens', tokenIds: ids },
      adapters: [{ name: 'one', weight: 1 }],
    });
  }
});

test('options of streams that make no sense are refused by their names', async (t) => {
  const url = await serve(t, memoryServices());
  for (const [stream_options, param] of [
    ['usage', 'stream_options'],
    [{ include_usage: 'yes' }, 'stream_options.include_usage'],
  ] as const) {
    const answer = await postJson(`${url}/v1/completions`, { prompt: 'a', stream: true, stream_options });
    const { error } = (await answer.json()) as { error: { param: string } };
    assert.deepEqual([answer.status, error.param], [400, param]);
  }
  const more = await postJson(`${url}/v1/completions`, {
    prompt: 'a',
    stream: true,
    stream_options: { include_usage: true, include_obfuscation: true },
  });
  assert.equal(more.headers.get('x-loramux-ignored'), 'stream_options.include_obfuscation');
});
