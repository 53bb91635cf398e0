/** The examples of examples/handlers, served. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { lines, postJson } from '../rest/http.js';
import { startServer } from '../rest/served.js';

const example = (name: string) => fileURLToPath(new URL(`../../examples/handlers/${name}`, import.meta.url));
const flags = (name: string) => ['--model', example(name), '--log-level', 'error'];

test('echo: adapters without weights, selected by query, form, header and custom attribute', async (t) => {
  const url = await startServer(t, flags('echo'));
  const management = async (method: string, path: string) => {
    const answer = await fetch(`${url}/models/echo/adapters${path}`, { method });
    return { code: answer.status, ...((await answer.json()) as Record<string, unknown>) } as Record<string, unknown>;
  };
  const predict = (query: string, init: RequestInit = {}) =>
    fetch(`${url}/predictions/echo${query}`, { method: 'POST', body: 'pay', ...init });
  const text = async (answer: Promise<Response>) => (await answer).text();
  assert.equal((await predict('?adapter=one')).status, 424);
  const registered = await management('POST', '?name=one&src=nowhere&echooption=-opt-');
  assert.deepEqual(registered, { code: 200, status: 'Adapter one registered' });
  assert.equal(await text(predict('?adapter=one')), 'one-opt-pay');
  assert.equal(await text(predict('', { headers: { 'X-Amzn-SageMaker-Adapter-Identifier': 'one' } })), 'one-opt-pay');
  assert.equal(
    await text(predict('', { headers: { 'X-Amzn-SageMaker-Custom-Attributes': 'adapter=one' } })),
    'one-opt-pay',
  );
  assert.equal(
    await text(predict('', { headers: { 'X-Amzn-SageMaker-Custom-Attributes': 'adapter=new' } })),
    'dynnewpay',
  );
  assert.equal(
    await text(predict('', { body: new URLSearchParams({ data: 'form', adapter: 'one' }) })),
    'one-opt-form',
  );
  const parts = new FormData();
  parts.append('data', 'part');
  parts.append('adapter', 'one');
  assert.equal(await text(predict('', { body: parts })), 'one-opt-part');
  assert.equal(await text(fetch(`${url}/invocations`, { method: 'POST', body: 'plain' })), 'plain');
  assert.equal(
    await text(predict('', { body: Buffer.from('any type'), headers: { 'content-type': 'image/png' } })),
    'any type',
  );
  const asForm = { body: 'pay', headers: { 'content-type': 'application/x-www-form-urlencoded' } };
  assert.equal(await text(predict('?adapter=one', asForm)), 'one-opt-pay', 'what `curl -d pay` sends');
  assert.deepEqual(await management('GET', '/one'), {
    code: 200,
    name: 'one',
    src: 'nowhere',
    preload: true,
    pin: false,
  });
  assert.equal((await management('POST', '?name=one&src=x')).code, 409);
  assert.equal((await management('POST', '?name=two&src=x&error=broken')).message, 'refused: broken');
  assert.equal((await management('POST', '?name=two&src=x&oom=1')).code, 507);
  assert.equal((await management('GET', '/two')).code, 404);
  assert.deepEqual(
    ((await management('GET', '')).adapters as { name: string }[]).map(({ name }) => name),
    ['one'],
  );
  const fetched = async (accepted: Response, query = ''): Promise<Response> => {
    const answer = await predict(query, { headers: { 'x-starting-token': accepted.headers.get('x-next-token')! } });
    return answer.status === 202 ? fetched(accepted, query) : answer;
  };
  const named = await predict('?adapter=one', { headers: { 'x-synchronous': 'false' } });
  assert.equal(await text(fetched(named)), 'one-opt-pay');
  assert.equal(await text(fetched(named, '?adapter=one')), 'one-opt-pay');
  assert.equal((await fetched(named, '?adapter=two')).status, 400, 'the answer is not from that one');
  assert.equal((await management('DELETE', '/one')).status, 'Adapter one unregistered');
  assert.equal((await predict('?adapter=one')).status, 424);
  assert.equal((await predict('', { headers: { handler: 'registerAdapter' } })).status, 400);
  const later = await predict('', { headers: { 'x-synchronous': 'false' } });
  assert.equal(await text(fetched(later)), 'pay');
  const rpc = await postJson(`${url}/loramux.v1.InferenceService/Predict`, { inputs: [{ text: 'x' }] });
  assert.equal(rpc.status, 501);
  const [model] = (await (await fetch(`${url}/models/echo`)).json()) as { models: { modelName: string }[] }[];
  assert.equal(model!.models[0]!.modelName, 'echo');
});

test('classifier: log-probabilities of the model’s own generation become scores', async (t) => {
  const url = await startServer(t, flags('classifier'));
  const ask = (body: unknown) => postJson(`${url}/invocations`, body);
  const answer = await ask({ inputs: ['How is the weather?', 'Good morning'], labels: ['the', 'it', 'zebra'] });
  const list = (await answer.json()) as { label: string | null; scores: Record<string, number> }[];
  assert.equal(list.length, 2);
  for (const { label, scores } of list) {
    assert.equal(scores.zebra, 0);
    const sum = Object.values(scores).reduce((total, score) => total + score, 0);
    assert.ok(label === null ? sum === 0 : Math.abs(sum - 1) < 1e-9);
    if (label !== null) assert.equal(scores[label], Math.max(...Object.values(scores)));
  }
  const wrong = await ask({ inputs: 'x', labels: [] });
  assert.equal(wrong.status, 400);
  assert.match(((await wrong.json()) as { message: string }).message, /^labels must be/);
  const noJson = await fetch(`${url}/invocations`, { method: 'POST', body: 'not json' });
  assert.equal(noJson.status, 400);
  assert.match(((await noJson.json()) as { message: string }).message, /^data is not JSON: /);
  const several = await ask({ inputs: ['x', 'y'], labels: ['a', 'b'], adapters: ['pirate', 'french'] });
  assert.equal(several.status, 400);
  const unknown = await ask({ inputs: 'x', labels: ['a', 'b'], adapters: 'pirat' });
  assert.equal(unknown.status, 424);
  assert.match(((await unknown.json()) as { message: string }).message, /pirat.*pirate/);
});

test('template: adapters with weights and a prompt of their own, whole and as a stream', async (t) => {
  const url = await startServer(t, flags('template'));
  const register = (query: string) => fetch(`${url}/models/template/adapters?${query}`, { method: 'POST' });
  const listed = (await (await fetch(`${url}/adapters`)).json()) as { adapters: { name: string; src: string }[] };
  const { src } = listed.adapters.find(({ name }) => name === 'pirate')!;
  const query = (template: string) => String(new URLSearchParams({ name: 'captain', src, template }));
  const refused = await register(query('no place'));
  assert.equal(refused.status, 400);
  assert.match(((await refused.json()) as { message: string }).message, /must hold \{input\}/);
  assert.equal((await fetch(`${url}/adapters/captain`)).status, 404, 'what the handler refuses is not registered');
  assert.equal((await register(query('How is {input}'))).status, 200);
  const ask = async (adapters: string) =>
    (await (await postJson(`${url}/invocations`, { inputs: 'the weather', adapters })).json()) as Record<
      string,
      string
    >;
  const captain = await ask('captain');
  assert.equal(captain.prompt, 'How is the weather');
  const plain = await ask('');
  assert.equal(plain.prompt, 'the weather');
  const bare = await startServer(t, ['--log-level', 'error']);
  const direct = await postJson(`${bare}/invocations`, {
    inputs: 'How is the weather',
    adapters: 'pirate',
    parameters: { max_new_tokens: 16 },
  });
  assert.equal(captain.generated_text, ((await direct.json()) as { generated_text: string }).generated_text);
  const streamed = await postJson(`${url}/invocations`, { inputs: 'the weather', adapters: 'captain', stream: true });
  assert.match(streamed.headers.get('content-type')!, /^application\/jsonlines/);
  const pieces = lines(await streamed.text());
  assert.ok(pieces.length > 1);
  assert.equal(pieces.map(({ text }) => text).join(''), captain.generated_text);
  const change = new URLSearchParams({ template: 'Where is {input}' });
  assert.equal((await fetch(`${url}/adapters/captain/update?${change}`, { method: 'POST' })).status, 200);
  assert.equal((await ask('captain')).prompt, 'Where is the weather');
  const list = await postJson(`${url}/invocations`, { inputs: 'the weather', adapters: ['captain'] });
  assert.equal(list.status, 400, 'a list is not answered without the template');
  const missing = await postJson(`${url}/invocations`, { inputs: 'x', adapters: 'nobody', stream: true });
  assert.equal(missing.status, 424);
});
