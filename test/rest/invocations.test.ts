import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { postJson, serve, until } from './http.js';
import { memoryServices } from './memory-services.js';

test('a text gives an object, a list gives a list in order', async (t) => {
  const url = await serve(t, memoryServices());
  const single = await postJson(`${url}/invocations`, { inputs: 'Hello' });
  assert.equal(single.status, 200);
  assert.match(single.headers.get('content-type')!, /^application\/json/);
  const { generated_text: text } = (await single.json()) as { generated_text: string };
  const several = await postJson(`${url}/predictions/base`, { inputs: ['Other', 'Hello'] });
  const list = (await several.json()) as { generated_text: string }[];
  assert.equal(list.length, 2);
  assert.equal(list[1]!.generated_text, text);
});

test('each input of a list is answered by its own adapter, and the header proves it', async (t) => {
  const url = await serve(t, memoryServices());
  const answer = await postJson(`${url}/invocations`, {
    inputs: ['x', 'x', 'x', 'x'],
    adapters: ['one', '', 'two', [{ name: 'one', weight: 0.5 }, { name: 'two' }]],
    parameters: { details: true },
  });
  const list = (await answer.json()) as { generated_text: string; details: { receipt: { adapters: object[] } } }[];
  assert.equal(new Set(list.map((entry) => entry.generated_text)).size, 4);
  assert.match(
    answer.headers.get('x-loramux-adapter')!,
    /^one@[0-9a-f]{16}, base, two@[0-9a-f]{16}, one@[0-9a-f]{16}\*0\.5\+two@[0-9a-f]{16}$/,
  );
  assert.deepEqual(
    list.map((entry) => entry.details.receipt.adapters.length),
    [1, 0, 1, 2],
  );
});

test('every place that can name the adapter does', async (t) => {
  const url = await serve(t, memoryServices());
  const ask = async (query: string, headers: Record<string, string>, adapters?: unknown) => {
    const answer = await postJson(`${url}/invocations${query}`, { inputs: 'x', adapters }, headers);
    return answer.headers.get('x-loramux-adapter')?.split('@')[0] ?? answer.status;
  };
  assert.equal(await ask('', {}), 'base');
  assert.equal(await ask('', {}, 'one'), 'one');
  assert.equal(await ask('?adapter=one', {}), 'one');
  assert.equal(await ask('', { 'x-amzn-sagemaker-custom-attributes': 'a=b;adapter=two' }), 'two');
  assert.equal(await ask('', { 'X-Amzn-SageMaker-Adapter-Identifier': 'two' }), 'two');
  assert.equal(await ask('?adapter=one', { 'x-amzn-sagemaker-adapter-identifier': 'one' }, ['one']), 'one');
  assert.equal(await ask('?adapter=one', {}, 'two'), 400);
  assert.equal(await ask('?adapter=one', {}, ''), 400);
  const byModel = await postJson(`${url}/invocations`, { inputs: 'x', model: 'two' });
  assert.match(byModel.headers.get('x-loramux-adapter')!, /^two@/);
});

test('a field model that is neither the model nor an adapter is not answered by the base model', async (t) => {
  const url = await serve(t, memoryServices());
  const ask = (fields: object, headers = {}) => postJson(`${url}/invocations`, { inputs: 'x', ...fields }, headers);
  for (const fields of [{ model: 'lmi' }, { model: 'on' }, { model: 'One' }, { model: 'base:one' }]) {
    const answer = await ask(fields);
    const told = (await answer.json()) as { reason: string; message: string };
    assert.deepEqual([answer.status, told.reason], [424, 'ADAPTER_NOT_REGISTERED']);
    assert.match(told.message, /the field model is ".*", which is neither the model "base" nor an adapter of it/);
  }
  // Where the request says otherwise what answers, the field is as unimportant as an unknown one.
  for (const [fields, headers, wanted] of [
    [{ model: 'lmi', adapters: 'one' }, {}, 'one'],
    [{ model: 'lmi', adapters: null }, {}, 'base'],
    [{ model: 'lmi' }, { 'X-Amzn-SageMaker-Adapter-Identifier': 'two' }, 'two'],
    [{ model: '' }, {}, 'base'],
  ] as const) {
    const answer = await ask(fields, headers);
    assert.equal(answer.headers.get('x-loramux-ignored'), 'model');
    assert.equal(answer.headers.get('x-loramux-adapter')!.split('@')[0], wanted);
  }
  assert.equal((await ask({ model: 'base' })).headers.get('x-loramux-adapter'), 'base');
  assert.equal((await ask({ model: null })).headers.get('x-loramux-adapter'), 'base');
  const djl = await serve(t, memoryServices(), { compat: 'djl' });
  const ignored = await postJson(`${djl}/invocations`, { inputs: 'x', model: 'lmi' });
  assert.deepEqual([ignored.status, ignored.headers.get('x-loramux-ignored')], [200, 'model']);
});

test('details hold tokens with log-probabilities, finish reason, counts and receipt', async (t) => {
  const url = await serve(t, memoryServices());
  const details = async (inputs: string, parameters: object) => {
    const answer = await postJson(`${url}/invocations`, { inputs, parameters: { details: true, ...parameters } });
    return ((await answer.json()) as { details: Record<string, unknown> }).details;
  };
  const length = await details('x', { max_new_tokens: 3, top_n_tokens: 1 });
  assert.equal(length.finish_reason, 'length');
  assert.equal(length.generated_tokens, 3);
  assert.equal(length.inputs, 'x');
  const tokens = length.tokens as { id: number; text: string; log_prob: number }[];
  assert.deepEqual(
    tokens.map((token) => token.log_prob),
    tokens.map((token) => -(token.id + 1) / 8),
  );
  assert.equal((length.top_tokens as object[]).length, 3);
  assert.equal((await details('EOS@2', {})).finish_reason, 'eos_token');
  assert.equal((await details('x', { stop_sequences: ['a'] })).finish_reason, 'stop_sequence');
});

test('faults are JSON with the status in it, the stable reason and what would be right', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const fault = async (path: string, init: RequestInit) => {
    const answer = await fetch(url + path, { method: 'POST', ...init });
    const json = (await answer.json()) as Record<string, unknown>;
    assert.equal(json.code, answer.status);
    return json;
  };
  const body = (value: unknown) => ({ body: JSON.stringify(value), headers: { 'content-type': 'application/json' } });
  const unknown = await fault('/invocations', body({ inputs: 'x', adapters: 'onne' }));
  assert.equal(unknown.code, 424);
  assert.equal(unknown.reason, 'ADAPTER_NOT_REGISTERED');
  assert.match(String(unknown.error), /"onne" is not registered; near: one/);
  assert.deepEqual(unknown.metadata, { adapter: 'onne', near: 'one' });
  assert.equal(services.running(), 0);
  const broken = await fault('/invocations', { ...body(0), body: '{"inputs": "x",\n "stream": }' });
  assert.match(String(broken.message), /at line 2 column 12$/);
  assert.equal((await fault('/predictions/nope', body({ inputs: 'x' }))).type, 'ModelNotFoundException');
  assert.equal((await fault('/predictions/base/9', body({ inputs: 'x' }))).code, 404);
  assert.equal((await fault('/nowhere', body({}))).reason, 'ROUTE_NOT_FOUND');
  assert.equal((await fault('/invocations', body({ foo: 1 }))).code, 400);
  assert.equal((await fault('/invocations', body([]))).code, 400);
  assert.equal(
    (await fault('/invocations', body({ inputs: ['a', 1] }))).message,
    'inputs[1] must be a text or a list of token ids, not 1',
  );
  const big = await fault('/invocations', body({ inputs: 'x'.repeat(1024 * 1024) }));
  assert.equal(big.reason, 'PAYLOAD_TOO_LARGE');
  assert.match(String(big.message), /at most \d+ bytes are read; --max-body-bytes changes the limit$/);
  const get = await fetch(`${url}/invocations`);
  assert.equal(get.status, 405);
  assert.equal(get.headers.get('allow'), 'POST, OPTIONS');
});

test('bodies: no content type and curl forms count as JSON, text/plain is one input, others are refused', async (t) => {
  const url = await serve(t, memoryServices());
  const send = (contentType: string | undefined, body: string) =>
    fetch(`${url}/invocations`, {
      method: 'POST',
      body: Buffer.from(body),
      ...(contentType ? { headers: { 'content-type': contentType } } : {}),
    });
  assert.equal((await send(undefined, '{"inputs": "x"}')).status, 200);
  assert.equal((await send('application/x-www-form-urlencoded', '{"inputs": "x"}')).status, 200);
  const plain = (await (await send('text/plain; charset=utf-8', 'Hello')).json()) as object[];
  assert.equal(plain.length, 1);
  const object = await (await send('text/plain', '{"inputs": "Hello"}')).json();
  assert.deepEqual(object, plain[0]);
  // Taken for prompts, the base model would answer them in silence.
  for (const broken of ['{"inputs": "Hello", "adapters": "one",}', '{ "adapters": "one", "inputs": "a"}}']) {
    const refused = await send('text/plain', broken);
    assert.match(((await refused.json()) as { message: string }).message, /^the body is not valid JSON: .* at line 1/);
  }
  const lacking = await send('text/plain', '{"adapters": "one"}');
  assert.match(((await lacking.json()) as { message: string }).message, /^the body must have inputs/);
  // Whatever else it is: taken for a prompt, it would be answered by the base model.
  for (const other of [
    '[{"inputs": "Hello", "adapters": "one"}]',
    '[{"text": "Hello", "adapter": "one"}]',
    '{"adapter": "one", "text": "Hello"}',
    '{"instances": ["Hello"], "lora_name": "one"}',
    "{'inputs': 'Hello', 'adapters': 'one'}",
  ]) {
    assert.equal((await send('text/plain', other)).status, 400, other);
  }
  const near = (await (await send('text/plain', '{"adapter": "one", "text": "Hello"}')).json()) as { message: string };
  assert.match(near.message, /^adapter looks like the adapter of a request, .* send it as \{"inputs": "\.\.\."\}/);
  // Data for the model, which names an adapter in no form that anybody knows.
  for (const prompt of ['{"alias": "Bob", "age": 7}', '[{"selection": [1, 2]}]'])
    assert.equal((await send('text/plain', prompt)).status, 200);
  for (const prompt of ['{', '{"a": 1}', '{ braces }', '[1, 2]', '[{"a": 1}]', '[Scene: a street]'])
    assert.equal((await send('text/plain', prompt)).status, 200);
  assert.equal((await send('image/png', 'x')).status, 400);
  const invalid = await fetch(`${url}/invocations`, { method: 'POST', body: Buffer.from([0x22, 0xff, 0x22]) });
  assert.match(((await invalid.json()) as { message: string }).message, /not valid UTF-8/);
});

test('the model is chosen by path, query, header or Target-Model', async (t) => {
  const url = await serve(t, memoryServices(['base', 'other']));
  const model = async (path: string, headers: Record<string, string> = {}) => {
    const answer = await postJson(url + path, { inputs: 'x', parameters: { details: true } }, headers);
    const json = (await answer.json()) as { details?: { receipt: { model: string } }; code?: number };
    return json.details?.receipt.model ?? json.code;
  };
  assert.equal(await model('/predictions/other'), 'other');
  assert.equal(await model('/models/other/invoke?adapter=one'), 'other');
  assert.equal(await model('/invocations?model_name=other'), 'other');
  assert.equal(await model('/invocations', { model_name: 'other' }), 'other');
  assert.equal(await model('/invocations', { 'x-amzn-sagemaker-target-model': 'other.tar.gz' }), 'other');
  assert.equal(await model('/invocations', { 'x-amzn-sagemaker-target-model': 'nope' }), 404);
  assert.equal(await model('/invocations'), 400);
});

test('places that name different models are refused, and the first decides as with the original', async (t) => {
  const serving = async (compat: 'strict' | 'djl') => {
    const url = await serve(t, memoryServices(['base', 'other']), { compat });
    return async (path: string, headers: Record<string, string> = {}) => {
      const answer = await postJson(url + path, { inputs: 'x', parameters: { details: true } }, headers);
      const { details, message } = (await answer.json()) as {
        details?: { receipt: { model: string } };
        message: string;
      };
      return details?.receipt.model ?? `${answer.status} ${message}`;
    };
  };
  const [strict, djl] = [await serving('strict'), await serving('djl')];
  const attribute = { 'x-amzn-sagemaker-custom-attributes': 'model_name=other' };
  const calls: [path: string, headers?: Record<string, string>][] = [
    ['/predictions/base?model_name=other'],
    ['/models/base/invoke', { model_name: 'other' }],
    ['/predictions/base', attribute],
    ['/invocations?model_name=base', attribute],
  ];
  for (const [path, headers] of calls) {
    assert.match(
      await strict(path, headers),
      /^400 model_name is given several times with different values: "base", "other"$/,
      path,
    );
    assert.equal(await djl(path, headers), 'base', path);
  }
  assert.equal(await strict('/predictions/other?model_name=other', attribute), 'other');
});

test('where no model is served, that is what is said', async (t) => {
  const url = await serve(t, memoryServices([]));
  const answer = await postJson(`${url}/invocations`, { inputs: 'x' });
  const { reason, message } = (await answer.json()) as { reason: string; message: string };
  assert.deepEqual([answer.status, reason], [404, 'MODEL_NOT_FOUND']);
  assert.match(message, /^no model is served now; GET \/models tells/);
});

test('every answer has a request id: the caller’s, or a new one', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const id = async (headers: Record<string, string>, path = '/ping') =>
    (await fetch(url + path, { headers })).headers.get('x-request-id')!;
  assert.equal(await id({ 'x-request-id': 'abc-123' }), 'abc-123');
  assert.equal(await id({ 'x-request-id': 'abc-123' }, '/nowhere'), 'abc-123');
  assert.match(await id({}), /^[0-9a-f-]{36}$/);
  assert.match(await id({ 'x-request-id': 'x'.repeat(200) }), /^[0-9a-f-]{36}$/);
  await postJson(`${url}/invocations`, { inputs: 'x' }, { 'x-request-id': 'mine' });
  assert.equal(services.calls[0]!.requestId, 'mine');
});

test('a client that leaves cancels its rows', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const request = http.request(`${url}/invocations`, { method: 'POST' });
  request.on('error', () => {});
  request.end(JSON.stringify({ inputs: ['SLOW@60000', 'SLOW@60000'] }));
  await until(() => services.running() === 2);
  request.destroy();
  await until(() => services.running() === 0);
  assert.ok(services.calls[0]!.signal.aborted);
});

test('an answered request leaves its signal alone', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  await (await postJson(`${url}/invocations`, { inputs: 'x' })).text();
  assert.equal(services.calls[0]!.signal.aborted, false);
});

test('a priority in the header reaches the service, nonsense is refused', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const ask = async (priority?: string) =>
    (await postJson(`${url}/invocations`, { inputs: 'x' }, priority === undefined ? {} : { 'x-priority': priority }))
      .status;
  assert.deepEqual([await ask('5'), await ask()], [200, 200]);
  assert.deepEqual(
    services.calls.map(({ priority }) => priority),
    [5, undefined],
  );
  assert.deepEqual([await ask('urgent'), await ask('101'), await ask('1.5')], [400, 400, 400]);
  assert.equal(services.calls.length, 2);
});
