/** What clients of OpenAI's API are told of a failure: its error object, on every path below `/v1`. */
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { AppError } from '../../server/errors.js';
import { refuseWhileDraining } from '../../server/service/draining.js';
import { postJson, serve, until } from './http.js';
import { memoryServices } from './memory-services.js';

interface Told {
  readonly code: number;
  readonly type: string;
  readonly message: string;
  readonly reason: string;
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string;
  };
}

const messages = [{ role: 'user', content: 'Hi' }];

/** Says that an answer is a failure with OpenAI's object in it, and what DJL Serving's clients read beside that. */
async function assertTold(answer: Response, status: number, reason: string, type: string, param: string | null = null) {
  const told = (await answer.json()) as Told;
  const { message } = told;
  assert.deepEqual([answer.status, told.code, told.reason, typeof told.type], [status, status, reason, 'string']);
  assert.deepEqual(told.error, { message, type, param, code: reason });
  assert.ok(message.length > 0);
}

test('a failure below /v1 is an object of OpenAI, whatever failed', async (t) => {
  const url = await serve(t, memoryServices(), { maxBodyBytes: 500, later: { maxBytes: 1, keepMs: 1000 } });
  const chats = `${url}/v1/chat/completions`;
  const invalid = 'invalid_request_error';
  for (const path of ['/v1', '/v1/', '/v1/embeddings', '/v1/responses', '/v1/models/one/two'])
    await assertTold(await postJson(url + path, {}), 404, 'ROUTE_NOT_FOUND', 'not_found_error');
  await assertTold(await fetch(`${url}/v1/models/%zz`), 400, 'INVALID_REQUEST', invalid);
  await assertTold(await fetch(chats), 405, 'METHOD_NOT_ALLOWED', invalid);
  const headers = { 'content-type': 'application/json' };
  await assertTold(await fetch(chats, { method: 'POST', headers, body: '{"a' }), 400, 'INVALID_REQUEST', invalid);
  await assertTold(await fetch(chats, { method: 'POST' }), 400, 'INVALID_REQUEST', invalid);
  await assertTold(await postJson(chats, { messages: 'x'.repeat(600) }), 413, 'PAYLOAD_TOO_LARGE', invalid);
  await assertTold(await postJson(chats, { messages, n: 'x' }), 400, 'INVALID_REQUEST', invalid, 'n');
  await assertTold(await postJson(chats, { model: 'base' }), 400, 'INVALID_REQUEST', invalid, 'messages');
  await assertTold(
    await postJson(`${url}/v1/completions`, { model: 'base' }),
    400,
    'INVALID_REQUEST',
    invalid,
    'prompt',
  );
  for (const named of [{ model: 'nope' }, { adapters: 'nope' }])
    await assertTold(
      await postJson(chats, { messages, ...named }),
      424,
      'ADAPTER_NOT_REGISTERED',
      'not_found_error',
      named.model ? 'model' : null,
    );
  const token = postJson(chats, { messages }, { 'x-synchronous': 'false' });
  await assertTold(await token, 503, 'QUEUE_FULL', 'rate_limit_error');
  for (const stream of [false, true]) {
    const failed = postJson(`${url}/v1/completions`, { prompt: 'RAISE@0', stream });
    await assertTold(await failed, 503, 'ENGINE_FAILED', 'server_error');
  }
});

test('below /v1 a stream that fails ends with an event of its failure, and no [DONE] follows', async (t) => {
  const services = memoryServices();
  const cut = new AbortController();
  const url = await serve(t, services, { cut: cut.signal });
  for (const [path, body] of [
    ['/v1/completions', { prompt: 'RAISE@2' }],
    ['/v1/chat/completions', { messages: [{ role: 'user', content: 'RAISE@2' }] }],
  ] as const) {
    const events = (await (await postJson(url + path, { ...body, stream: true })).text()).split('\n\n');
    assert.equal(events.length, 4, path);
    assert.equal(events.pop(), '');
    const message = 'the engine stopped';
    const error = { message, type: 'server_error', param: null, code: 'ENGINE_FAILED' };
    assert.deepEqual(JSON.parse(events.pop()!.slice(6)), { code: 503, message, error, reason: 'ENGINE_FAILED' }, path);
  }
  const streamed = postJson(`${url}/v1/completions`, { prompt: 'SLOW@1', stream: true, max_tokens: 1e6 });
  await until(() => getEventListeners(cut.signal, 'abort').length === 1);
  const { body } = await streamed;
  cut.abort(new AppError('SHUTTING_DOWN', 'the server is shutting down'));
  const text = await new Response(body).text();
  assert.equal(JSON.parse(text.split('\n\n').at(-2)!.slice(6)).error.code, 'SHUTTING_DOWN');
});

test('an answer to fetch later that fails below /v1 tells it so, whole or as a stream', async (t) => {
  const url = await serve(t, memoryServices());
  const ask = async (body: object) => {
    const accepted = await postJson(`${url}/v1/completions`, body, { 'x-synchronous': 'false' });
    const token = accepted.headers.get('x-next-token')!;
    for (;;) {
      const fetched = await postJson(`${url}/v1/completions`, {}, { 'x-starting-token': token, 'x-max-items': '9' });
      if (fetched.status !== 202 && !fetched.headers.has('x-next-token')) return fetched;
      await fetched.text();
    }
  };
  await assertTold(await ask({ prompt: 'RAISE@1' }), 503, 'ENGINE_FAILED', 'server_error');
  const text = await (await ask({ prompt: 'RAISE@1', stream: true })).text();
  assert.equal(JSON.parse(text.split('\n\n').at(-2)!.slice(6)).error.code, 'ENGINE_FAILED');
});

test('a server that shuts down says so below /v1', async (t) => {
  let draining = false;
  const url = await serve(
    t,
    refuseWhileDraining(memoryServices(), () => draining),
  );
  draining = true;
  const refused = await postJson(`${url}/v1/chat/completions`, { messages });
  assert.equal(refused.headers.get('retry-after'), '5');
  await assertTold(refused, 503, 'SHUTTING_DOWN', 'server_error');
});

test('the same bodies on the other paths fail as they do in DJL Serving', async (t) => {
  const url = await serve(t, memoryServices());
  for (const path of ['/invocations', '/predictions/base', '/models/base/invoke']) {
    const refused = await postJson(url + path, { messages, adapters: 'nope' });
    const { error, message } = (await refused.json()) as { error: string; message: string };
    assert.deepEqual([refused.status, error], [424, message], path);
    const streamed = await postJson(url + path, { prompt: 'RAISE@2', stream: true });
    const last = (await streamed.text()).split('\n\n').at(-2)!;
    const told = { code: 503, error: 'the engine stopped', reason: 'ENGINE_FAILED' };
    assert.deepEqual(JSON.parse(last.slice(6)), told, path);
  }
  const unknown = (await (await fetch(`${url}/v1x`)).json()) as object;
  assert.ok(!('error' in unknown), 'a path beside /v1');
});
