/** Values of the wrong type are refused with the field, what was there, and what would be right; nothing is changed. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { managed } from '../service/managed.js';
import { postJson, serve } from './http.js';
import { memoryServices } from './memory-services.js';

interface Told {
  readonly reason: string;
  readonly message: string;
}

async function start(t: TestContext) {
  const { service } = managed({ model: 'base' });
  const url = await serve(t, { ...memoryServices(), adapters: service });
  const ask = async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const sent = body !== undefined && { body: JSON.stringify(body) };
    const type = body !== undefined && { 'content-type': 'application/json' };
    const answer = await fetch(url + path, { method, headers: { ...type, ...headers }, ...sent });
    return [answer.status, (await answer.json()) as Told] as const;
  };
  return { url, ask };
}

test('bodies of management calls have JSON types, and queries have texts', async (t) => {
  const { ask } = await start(t);
  const good = { name: 'a', src: 'a0' };
  const refused: readonly [string, string, unknown, RegExp][] = [
    ['POST', '/adapters', { ...good, name: 5 }, /^name must be a text, not 5$/],
    ['POST', '/adapters', { ...good, name: ['a'] }, /^name must be a text, not a list$/],
    ['POST', '/adapters', { ...good, src: true }, /^src must be a text, not true$/],
    ['POST', '/adapters', { ...good, src: {} }, /^src must be a text, not an object$/],
    ['POST', '/adapters', { ...good, pin: 'true' }, /^pin must be true or false, not "true"$/],
    ['POST', '/adapters', { ...good, preload: 1 }, /^preload must be true or false, not 1$/],
    ['POST', '/adapters', { ...good, synchronous: 'no' }, /^synchronous must be true or false, not "no"$/],
    ['POST', '/adapters', { ...good, replace: [] }, /^replace must be true or false, not a list$/],
    ['POST', '/adapters', { ...good, expected_digest: 12 }, /^expected_digest must be a text, not 12$/],
    ['POST', '/adapters', { ...good, color: ['red'] }, /^color must be a text, a number or a boolean, not a list$/],
    ['POST', '/adapters?name=a&src=a0&pin=1', undefined, /^pin must be true or false, not "1"$/],
    ['POST', '/adapters?name=b', good, /^name is "b" in the query and "a" in the body$/],
    ['POST', '/adapters?pin=true', { ...good, pin: false }, /^pin is true in the query and false in the body$/],
    ['POST', '/adapters', [good], /^the body must be a JSON object/],
    ['POST', '/adapters', 'a', /^the body must be a JSON object/],
    ['POST', '/adapters/validate', { src: 7 }, /^src must be a text, not 7$/],
    ['POST', '/adapters/validate', { src: 'a0', pin: true }, /^pin is no parameter of this call; there are src$/],
    ['POST', '/models', { url: 5 }, /^url must be a text, not 5$/],
    ['POST', '/models', { url: '/m', model_name: 5 }, /^model_name must be a text, not 5$/],
    ['POST', '/models', { url: '/m', batch_size: '4' }, /^batch_size must be a number, not "4"$/],
    ['POST', '/models', { url: '/m', batch_size: 1.5 }, /^batch_size must be a whole number, not 1\.5$/],
    ['POST', '/models', { url: '/m', job_queue_size: -1 }, /^job_queue_size must be .* between 1 and 1000000, not -1$/],
    [
      'POST',
      '/models',
      { url: '/m', batch_size: 1025 },
      /^batch_size must be a whole number between 1 and 1024, not 1025$/,
    ],
    ['POST', '/models?url=/m&batch_size=two', undefined, /^batch_size must be a whole number, not "two"$/],
    ['POST', '/models', { url: '/m', enable_lora: 'yes' }, /^enable_lora must be true or false, not "yes"$/],
    ['PUT', '/models/base', { max_worker: 0 }, /^max_worker must be at least 1; unregister the model/],
    ['PUT', '/models/base', { min_worker: 2, max_worker: 1 }, /^min_worker must not be above max_worker, 1$/],
    [
      'POST',
      '/models',
      { url: '/m', bach_size: 2 },
      /^bach_size is no parameter of a registration; there are url, model_name, .*batch_size/,
    ],
    ['PUT', '/models/base', { min_worker: '1' }, /^min_worker must be a number, not "1"$/],
    ['PUT', '/models/base?max_worker=-2', undefined, /^max_worker must be a whole number, or -1 .*not -2$/],
    ['DELETE', '/models/base?synchronous=never', undefined, /^synchronous must be true or false, not "never"$/],
    ['POST', '/workflows?url=/w.json&sinchronous=false', undefined, /^sinchronous is no parameter of this call/],
    ['POST', '/workflows?url=/w.json', { name: 'w' }, /^a workflow is told by the query or by the body, not by both$/],
    ['GET', '/adapters?limit=1.5', undefined, /^limit must be a whole number, not "1\.5"$/],
    ['GET', '/models?limit=x', undefined, /^limit must be a whole number, not "x"$/],
    ['GET', '/models?next_page_token=x', undefined, /^next_page_token is not one that this server gave out$/],
    ['GET', '/adapters?next_page_token=x', undefined, /^next_page_token is not one that this server gave out$/],
    ['GET', '/adapter-events?next_page_token=x', undefined, /^next_page_token is not one that this server gave out$/],
    ['GET', '/workflows?limit=', undefined, /^limit must be a whole number, not ""$/],
    ['GET', '/adapters?verbose=1', undefined, /^verbose must be true or false, not "1"$/],
    ['GET', '/adapter-events?limit=ten', undefined, /^limit must be a whole number, not "ten"$/],
    ['PUT', '/aliases/live', { targets: 'a' }, /^targets must be a list, not "a"$/],
    ['PUT', '/aliases/live', { targets: [{ adapter: 'a', share: '1' }] }, /^targets\[0\]\.share must be a number/],
    ['PUT', '/aliases/live', { targets: [{ adapter: 'a' }], tragets: 1 }, /^tragets is not known; targets is$/],
    ['PUT', '/aliases/live?adaptor=a', undefined, /^adaptor is no parameter of this call/],
  ];
  for (const [method, path, body, message] of refused) {
    const [status, told] = await ask(method, path, body);
    const what = `${method} ${path} ${JSON.stringify(body)}: ${told.message}`;
    assert.deepEqual([status, told.reason], [400, 'INVALID_REQUEST'], what);
    assert.match(told.message, message, what);
  }
  assert.deepEqual(await ask('GET', '/adapters'), [200, { adapters: [] }]);
  const taken = { ...good, pin: true, synchronous: true, team: 'sea', level: 3, wide: false, note: null };
  assert.equal((await ask('POST', '/adapters?TEAMS=TRUE&pin=TRUE', taken))[0], 200);
  const [, info] = (await ask('GET', '/adapters/a?verbose=true')) as unknown as [number, { options: object }];
  assert.deepEqual(info.options, { TEAMS: 'TRUE', team: 'sea', level: '3', wide: 'false' });
  // A misspelt guard would delete what it should protect.
  const [status, told] = await ask('DELETE', '/adapters/a?expected_digets=00');
  assert.equal(status, 400);
  assert.match(told.message, /^expected_digets is no parameter of this call; there are expected_digest$/);
  // So would one that a script left empty.
  for (const [method, path] of [
    ['DELETE', '/adapters/a?expected_digest='],
    ['POST', '/adapters/a/update?src=a&expected_digest='],
    ['POST', '/adapters/a/update?digest='],
    ['POST', '/adapters/a/update?src='],
    ['POST', '/adapters?name=a&src=a&replace=true&expected_digest='],
  ] as const) {
    const [status, told] = await ask(method, path);
    assert.deepEqual([path, status], [path, 400]);
    assert.match(told.message, /^(expected_digest|digest|src) is empty/);
  }
  assert.equal((await ask('GET', '/adapters/a'))[0], 200);
});

test('bodies of inference calls have JSON types', async (t) => {
  const { ask } = await start(t);
  const refused: readonly [unknown, RegExp][] = [
    [{ inputs: 5 }, /^inputs must be a text, or a list of texts, not 5$/],
    [{ inputs: ['a', 5] }, /^inputs\[1\] must be a text or a list of token ids, not 5$/],
    [{ inputs: {} }, /^inputs must be a text, or a list of texts, not an object$/],
    [{ inputs: null }, /^inputs must be a text, or a list of texts, not null$/],
    [{ inputs: 'a', stream: 'true' }, /^stream must be true or false, not "true"$/],
    [{ inputs: 'a', parameters: [] }, /^parameters must be an object, not a list$/],
    [{ inputs: 'a', parameters: { max_new_tokens: '8' } }, /^parameters\.max_new_tokens must be a number, not "8"$/],
    [{ inputs: 'a', parameters: { max_new_tokens: 1.5 } }, /^parameters\.max_new_tokens must be a whole number/],
    [{ inputs: 'a', parameters: { do_sample: 'no' } }, /^parameters\.do_sample must be true or false, not "no"$/],
    [{ inputs: 'a', parameters: { stop: [1] } }, /^parameters\.stop\[0\] must be a text, not 1$/],
    [{ inputs: 'a', model: 5 }, /^model must be a text, not 5$/],
    [{ prompt: 'a', max_tokens: '8' }, /^max_tokens must be a number, not "8"$/],
    [{ messages: 'a' }, /^messages must be a list of messages, not "a"$/],
    [{ messages: [{ role: 1, content: 'a' }] }, /^messages\[0\]\.role must be a text, not 1$/],
    [['a'], /^the body must be an object such as .*not a list$/],
    ['a', /^the body must be an object such as .*not "a"$/],
  ];
  for (const [body, message] of refused) {
    const [status, told] = await ask('POST', '/invocations', body);
    const what = `${JSON.stringify(body)}: ${told.message}`;
    assert.deepEqual([status, told.reason], [400, 'INVALID_REQUEST'], what);
    assert.match(told.message, message, what);
  }
  for (const [name, value] of [
    ['x-synchronous', 'perhaps'],
    ['x-priority', 'high'],
  ]) {
    const [status, told] = await ask('POST', '/invocations', { inputs: 'a' }, { [name!]: value! });
    assert.equal(status, 400);
    assert.ok(told.message.includes(name!) && told.message.includes(`"${value}"`), told.message);
  }
});

test('no misplaced name of an adapter is answered by the base model in silence', async (t) => {
  const url = await serve(t, memoryServices());
  const inputs = 'x';
  const misplaced: readonly [query: string, body: object, headers?: Record<string, string>][] = [
    ['', { inputs, adapter: 'one' }],
    ['', { inputs, lora_name: 'one' }],
    ['', { inputs, parameters: { adapter_id: 'one' } }],
    ['', { inputs, parameters: { adapters: ['one'] } }],
    ['?adapters=one', { inputs }],
    ['?Adapter=one', { inputs }],
    ['', { prompt: 'x', adapter: 'one' }],
    ['', { messages: [{ role: 'user', content: 'x' }], lora: 'one' }],
    ['', { inputs, adapterId: 'one' }],
    ['', { inputs, 'lora-name': 'one' }],
    ['?adapter[]=one', { inputs }],
    ['', { inputs }, { adapter: 'one' }],
    ['', { inputs }, { 'X-Amzn-SageMaker-Custom-Attributes': 'trace=1; adapters=one' }],
    // However a name is spelt, and whatever else is in it.
    ['', { inputs, adapter_identifier: 'one' }],
    ['', { inputs, lora_adapter_name: 'one' }],
    ['', { inputs, peft_model: 'one' }],
    ['', { inputs, useLoRA: 'one' }],
    ['', { inputs, adaptor: 'one' }],
    ['', { inputs, default_adapters: 'one' }],
    ['', { inputs, selection: { adapters: [{ name: 'one' }] } }],
    ['', { inputs, alias: 'live' }],
    ['', { inputs, parameters: { lora_scale: 0.5 } }],
    ['', { messages: [{ role: 'user', content: 'x' }], target_adapter: 'one' }],
    ['?adapter%20=one', { inputs }],
    ['?adapters[0]=one', { inputs }],
    ['?trace=1;adapter=one', { inputs }],
    ['?trace=1&amp;adapter=one', { inputs }],
    ['', { inputs }, { 'Adapter-Identifier': 'one' }],
    ['', { inputs }, { 'X-Amzn-SageMaker-Adapter-Id': 'one' }],
    ['', { inputs }, { 'X-Amzn-SageMaker-Adapter-Alias': 'one' }],
    ['', { inputs }, { 'X-Lora-Adapter-Name': 'one' }],
    ...['adapter:one', 'adapter%3Done', 'adapter', '{"adapter": "one"}', '"adapter=one"', 'adapter_identifier=one'].map(
      (value): [string, object, Record<string, string>] => [
        '',
        { inputs },
        { 'X-Amzn-SageMaker-Custom-Attributes': value },
      ],
    ),
    ['', { inputs, options: { adapter: 'one' } }],
    ['', { inputs, parameters: { extra: { lora_name: 'one' } } }],
    ['', { inputs, options: [{ colour: 'red' }, { adapter: 'one' }] }],
    ['', { inputs, parameters: { requests: [{ lora_name: 'one' }] } }],
    ['', { prompt: inputs, parameters: { adapters: 'one' } }],
    ['', { messages: [{ role: 'user', content: [{ type: 'text', text: inputs, adapter: 'one' }] }] }],
    ['', { messages: [{ role: 'user', content: inputs }], extra_body: { adapters: 'one' } }],
    ['', { inputs }, { 'X-Amzn-SageMaker-Custom-Attributes': 'trace=1&adapter=one' }],
    ['', { inputs }, { 'X-Amzn-SageMaker-Custom-Attributes': 'trace=1 adapter=one' }],
  ];
  for (const [query, body, headers = {}] of misplaced) {
    const answer = await postJson(`${url}/invocations${query}`, body, headers);
    const { message } = (await answer.json()) as Told;
    assert.equal(answer.status, 400, JSON.stringify([query, body, headers]));
    assert.match(
      message,
      /is no place for an adapter in the (body|query|headers|custom attributes); it is named by the top-level field adapters/,
    );
  }
  const other = await postJson(`${url}/invocations?trace=1`, { inputs, colour: 'red' });
  assert.deepEqual([other.status, other.headers.get('x-loramux-ignored')], [200, 'colour, trace']);
  for (const name of ['explore', 'floral', 'x-loramux-actor', 'dorado']) {
    const asked = await postJson(`${url}/invocations`, { inputs, [name]: 'one' }, { [name]: 'one' });
    assert.equal(asked.status, 200, name);
  }
  const tools = [{ type: 'function', function: { name: 'f', parameters: { properties: { adapter: {} } } } }];
  const chat = { messages: [{ role: 'user', content: 'x' }], tools };
  assert.equal((await postJson(`${url}/invocations`, chat)).status, 200, 'what a tool takes is no choice');
  const shown = { 'X-Amzn-SageMaker-Adapter-Alias': 'Pretty' };
  assert.equal((await postJson(`${url}/invocations`, { inputs, adapters: 'one' }, shown)).status, 200);
});

test('a model that is named where nothing reads it is refused: an adapter may have been meant, and the base would answer', async (t) => {
  const url = await serve(t, memoryServices());
  const inputs = 'x';
  const attributes = (value: string) => ({ 'X-Amzn-SageMaker-Custom-Attributes': value });
  for (const [query, body, headers = {}] of [
    ['?model=one', { inputs }],
    ['?Model=one', { inputs }],
    ['', { inputs, Model: 'one' }],
    ['', { inputs, model_id: 'one' }],
    ['', { inputs, model_name: 'one' }],
    ['', { inputs, parameters: { model: 'one' } }],
    ['', { inputs }, attributes('trace=1;model=one')],
  ] as [string, object, Record<string, string>?][]) {
    const answer = await postJson(`${url}/invocations${query}`, body, headers);
    const { message } = (await answer.json()) as Told;
    assert.equal(answer.status, 400, JSON.stringify([query, body, headers]));
    assert.match(message, /model\S* is "one" and is not read in the (body|parameters|query|custom attributes)/i);
  }
  for (const [query, body] of [
    ['?model=base', { inputs }],
    ['?model=', { inputs, parameters: { model: 'base' } }],
    ['?model=other', { inputs, adapters: 'one' }],
    ['', { inputs, metadata: { model: 'one', adapter: 'one' } }],
  ] as const) {
    const answer = await postJson(`${url}/invocations${query}`, body);
    assert.equal(answer.status, 200, JSON.stringify([query, body]));
  }
});

test('weights beside adapters are refused, as another mix than the one asked for would answer', async (t) => {
  const url = await serve(t, memoryServices());
  const adapters = ['one', 'two'];
  for (const [query, body] of [
    ['', { inputs: ['x', 'y'], adapters, weights: [0.5, 0.5] }],
    ['', { inputs: 'x', adapters: 'one', parameters: { weight: 0.5 } }],
    ['', { prompt: 'x', adapters: 'one', weight: 0.5 }],
    ['?adapter=one&weight=0.5', { inputs: 'x' }],
  ] as const) {
    const answer = await postJson(`${url}/invocations${query}`, body);
    assert.equal(answer.status, 400, JSON.stringify([query, body]));
    assert.match(
      ((await answer.json()) as Told).message,
      /^weights? is not read here; a weight stands with its adapter/,
    );
  }
  const alone = await postJson(`${url}/invocations`, { inputs: 'x', weights: [1] });
  assert.deepEqual([alone.status, alone.headers.get('x-loramux-ignored')], [200, 'weights']);
  const djl = await serve(t, memoryServices(), { compat: 'djl' });
  const told = await postJson(`${djl}/invocations`, { inputs: ['x', 'y'], adapters, weights: [0.5, 0.5] });
  assert.deepEqual([told.status, told.headers.get('x-loramux-ignored')], [200, 'weights']);
});

test('what nothing reads of chat messages is told, and refused where it names an adapter', async (t) => {
  const url = await serve(t, memoryServices());
  const chat = (more: object) =>
    postJson(`${url}/invocations`, { messages: [{ role: 'user', content: 'x', tool_calls: null, ...more }] });
  const told = await chat({ name: 'ann', tool_call_id: '7' });
  assert.deepEqual([told.status, told.headers.get('x-loramux-ignored')], [200, 'name, tool_call_id']);
  assert.equal((await chat({})).headers.get('x-loramux-ignored'), null);
  assert.equal((await chat({ adapter: 'one' })).status, 400);
});

test('custom attributes that name two adapters are refused, and no unused name stops an answer', async (t) => {
  const url = await serve(t, memoryServices());
  const attributes = (value: string) =>
    postJson(`${url}/invocations`, { inputs: 'x' }, { 'X-Amzn-SageMaker-Custom-Attributes': value });
  const two = await attributes('adapter=one;adapter=two');
  assert.equal(two.status, 400);
  assert.match(((await two.json()) as Told).message, /the custom attribute adapter is given several times/);
  assert.equal((await attributes('adapter=one;adapter=one')).status, 200);
  const half = await fetch(`${url}/invocations`, { method: 'POST', body: '{"inputs": "x", "\\ud800": 1}' });
  assert.deepEqual([half.status, half.headers.get('x-loramux-ignored')], [200, '%EF%BF%BD']);
});

test('a number that JSON cannot hold, and bounds that are passed, are told as what they are', async (t) => {
  const url = await serve(t, memoryServices());
  for (const [parameters, told] of [
    ['"temperature": 1e999', /parameters.temperature must be a number, not Infinity/],
    ['"top_n_tokens": -1', /parameters.top_n_tokens must be an integer between 0 and 256, but is -1/],
    ['"top_n_tokens": 300', /parameters.top_n_tokens must be an integer between 0 and 256, but is 300/],
  ] as const) {
    const answer = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: `{"inputs": "x", "parameters": {${parameters}}}`,
    });
    assert.match(((await answer.json()) as Told).message, told);
  }
});
