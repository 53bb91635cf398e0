/** What is wrong with a request is told by the names that its body, or its schema, has for it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoramuxClient } from '../../sdk/index.js';
import { startServer } from './served.js';

test('a broken field is told by the name that the body gave it', async (t) => {
  const url = await startServer(t, ['--log-level', 'error']);
  const send = (body: object, headers: Record<string, string> = {}) =>
    fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
  const later = async (body: object) => {
    const token = (await send(body, { 'x-synchronous': 'false' })).headers.get('x-next-token')!;
    for (;;) {
      const fetched = await send({}, { 'x-starting-token': token });
      if (fetched.status !== 202) return fetched;
    }
  };
  const post = async (body: object, how = send) => {
    const response = await how(body);
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
    [{ prompt: [1, 99999] }, 'prompt[1]'],
    [{ prompt: [[1, 99999]] }, 'prompt[0][1]'],
    [{ prompt: ['Hello', [1, -1]] }, 'prompt[1][1]'],
    [{ prompt: [[]] }, 'prompt[0]'],
    [{ prompt: ['Hello', null] }, 'prompt[1]'],
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
  // What refuses the best of several is told by the fetch.
  for (const [body, field] of [
    [{ prompt: 'Hello', best_of: 2, max_tokens: 0 }, 'max_tokens'],
    [{ prompt: 'Hello', best_of: 2, max_tokens: 5000 }, 'prompt'],
    [{ inputs: 'Hello', parameters: { best_of: 2, max_new_tokens: 5000 } }, 'inputs'],
  ] as const) {
    assert.equal(await post(body, later), field, JSON.stringify(body));
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

test('what is not there is told as what was asked for, with what there is', async (t) => {
  const url = await startServer(t, ['--log-level', 'error']);
  const ask = async (method: string, path: string, body?: object) => {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(url + path, { method, ...(body && { headers, body: JSON.stringify(body) }) });
    const { message, reason } = (await response.json()) as { message: string; reason: string };
    return [response.status, reason, message] as const;
  };
  for (const method of ['GET', 'PUT', 'DELETE']) {
    const none = 'no workflow or model "dema" is registered; near names: demo';
    assert.deepEqual(await ask(method, '/workflows/dema'), [404, 'WORKFLOW_NOT_FOUND', none]);
    const model = 'model "dema" is not registered; near names: demo';
    assert.deepEqual(await ask(method, '/models/dema'), [404, 'MODEL_NOT_FOUND', model]);
  }
  const [status, reason, message] = await ask('POST', '/adapters/team/pirate');
  assert.deepEqual([status, reason], [405, 'METHOD_NOT_ALLOWED']);
  assert.equal(
    message,
    'there is no POST "pirate" of an adapter; there is POST .../team/update, and a "/" in a name is sent as %2F',
  );

  const template = '/workflows?template=adapter&adapter=w&url=adapters/pirate&model=dema';
  assert.match(
    (await ask('POST', template))[2],
    /^no model "dema" is registered; url "dema": it must be an absolute path/,
  );
  const [{ modelUrl }] = ((await (await fetch(`${url}/models`)).json()) as { models: [{ modelUrl: string }] }).models;
  const models = { m: { modelUrl, options: { dtype: 'int3' } } };
  const place = /^models\.m\.options\.dtype must be one of auto, fp32, int8, int4, not "int3"$/;
  assert.match((await ask('POST', '/workflows', { name: 'w', models, workflow: { out: ['m', 'in'] } }))[2], place);
  assert.equal((await ask('GET', '/workflows/w'))[0], 404);

  // A model that is there for a workflow goes with it, so that others share it by its url.
  const first = { name: 'first', models: { own: { modelUrl, batchSize: 3 } }, workflow: { out: ['own', 'in'] } };
  assert.equal((await fetch(`${url}/workflows`, { method: 'POST', body: JSON.stringify(first) })).status, 200);
  const [, notFound, why] = await ask('POST', '/workflows?template=adapter&adapter=x&url=adapters/pirate&model=own');
  assert.equal(notFound, 'MODEL_SOURCE_INVALID');
  assert.match(
    why,
    /^model "own" is there for workflows only \(first\) and goes with them; name its url, \S+, to share it; /,
  );
  assert.equal((await fetch(`${url}/workflows/first`, { method: 'DELETE' })).status, 200);

  for (const place of ['/workflows/demo/9', '/models/demo/9']) {
    const asked = place.startsWith('/models') ? 'MODEL_NOT_FOUND' : 'WORKFLOW_NOT_FOUND';
    const none = 'model demo has no version 9; leave the version out';
    for (const method of ['GET', 'PUT', 'DELETE']) assert.deepEqual(await ask(method, place), [404, asked, none]);
  }

  // Workflows answer as models do, and have versions.
  const definition = { name: 'greeter', version: '1', models: { m: modelUrl }, workflow: { out: ['m', 'in'] } };
  assert.equal((await fetch(`${url}/workflows`, { method: 'POST', body: JSON.stringify(definition) })).status, 200);
  const predict = (name: string) => ask('POST', `/predictions/${name}`, { inputs: 'Hello' });
  const older = 'no workflow "greeter" has version "2"; versions: 1';
  assert.deepEqual(await predict('greeter/2'), [404, 'WORKFLOW_NOT_FOUND', older]);
  assert.match((await predict('greter'))[2], /^model "greter" is not served; near names: greeter$/);
  assert.match((await predict('zzzzzz'))[2], /; served models: demo, m; workflows: greeter$/);

  // Which types a call may have depends on whether its answer is one message or a stream.
  for (const [method, types] of [
    ['Predict', 'a single message; it takes application/json, application/proto, application/grpc,'],
    ['StreamPredict', 'a stream; it takes application/connect+json, application/connect+proto, application/grpc,'],
  ] as const) {
    const headers = { 'content-type': method === 'Predict' ? 'application/connect+json' : 'application/json' };
    const response = await fetch(`${url}/loramux.v1.InferenceService/${method}`, {
      method: 'POST',
      headers,
      body: '{}',
    });
    const told = ((await response.json()) as { message: string }).message;
    assert.ok(told.includes(`none of this procedure, which answers with ${types}`), told);
  }
});
