import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { Compat } from '../../server/rest/compat.js';
import { postJson, serve } from './http.js';
import { memoryServices } from './memory-services.js';

const IDENTIFIER = 'X-Amzn-SageMaker-Adapter-Identifier';
const ATTRIBUTES = 'X-Amzn-SageMaker-Custom-Attributes';

/** What a fetch has beside its token. */
interface Beside {
  readonly path?: string;
  readonly headers?: Record<string, string>;
  readonly body?: unknown;
}

/** Serves two models and gives the token of a complete answer. */
async function answered(t: TestContext, request: object, path = '/predictions/base', compat: Compat = 'strict') {
  const url = await serve(t, memoryServices(['base', 'other']), { compat });
  const accepted = await postJson(url + path, request, { 'x-synchronous': 'false' });
  assert.equal(accepted.status, 200, await accepted.text());
  const token = accepted.headers.get('x-next-token')!;
  const fetchWith = async ({ path = '/invocations', headers = {}, body }: Beside) => {
    const all = { 'x-starting-token': token, ...headers };
    for (;;) {
      const answer =
        body === undefined
          ? await fetch(url + path, { method: 'POST', headers: all })
          : await postJson(url + path, body, all);
      const text = await answer.text();
      if (answer.status !== 202) return { status: answer.status, text };
    }
  };
  return { token, fetchWith };
}

test('a fetch that names other adapters or another model than its answer was asked from is refused', async (t) => {
  const { fetchWith } = await answered(t, { inputs: 'x', adapters: 'one' });
  const whole = await fetchWith({});
  assert.equal(whole.status, 200);
  const refused: [Beside, string][] = [
    [{ headers: { [IDENTIFIER]: 'two' } }, 'CONFLICTING_ADAPTERS'],
    [{ headers: { [IDENTIFIER]: '' } }, 'CONFLICTING_ADAPTERS'],
    [{ headers: { [ATTRIBUTES]: 'adapter=two' } }, 'CONFLICTING_ADAPTERS'],
    [{ path: '/invocations?adapter=two' }, 'CONFLICTING_ADAPTERS'],
    [{ path: '/invocations?adapter=' }, 'CONFLICTING_ADAPTERS'],
    [{ path: '/invocations?adapter=one&adapter=two' }, 'CONFLICTING_ADAPTERS'],
    [{ body: { inputs: 'x', adapters: 'two' } }, 'CONFLICTING_ADAPTERS'],
    [{ body: { adapters: null } }, 'CONFLICTING_ADAPTERS'],
    [{ body: { adapters: [{ name: 'one', weight: 0.5 }] } }, 'CONFLICTING_ADAPTERS'],
    [{ body: { adapters: ['one', 'two'] } }, 'ADAPTER_COUNT_MISMATCH'],
    [{ body: { model: 'two' } }, 'CONFLICTING_ADAPTERS'],
    [{ body: { model: 'tow' } }, 'CONFLICTING_ADAPTERS'],
    [{ path: '/invocations?adapters=two' }, 'INVALID_REQUEST'],
    [{ path: '/invocations?model=two' }, 'INVALID_REQUEST'],
    [{ path: '/invocations?adapter=one&weight=0.5' }, 'INVALID_REQUEST'],
    [{ body: { lora: 'two' } }, 'INVALID_REQUEST'],
    [{ body: { parameters: { adapter_id: 'two' } } }, 'INVALID_REQUEST'],
    [{ headers: { 'x-adapter': 'two' } }, 'INVALID_REQUEST'],
    [{ path: '/predictions/other' }, 'INVALID_REQUEST'],
    [{ path: '/predictions/nowhere' }, 'INVALID_REQUEST'],
    [{ path: '/predictions/base/2' }, 'INVALID_REQUEST'],
    [{ path: '/models/other/invoke' }, 'INVALID_REQUEST'],
    [{ path: '/invocations?model_name=other' }, 'INVALID_REQUEST'],
    [{ path: '/predictions/base?model_name=other' }, 'INVALID_REQUEST'],
    [{ headers: { 'X-Amzn-SageMaker-Target-Model': 'other' } }, 'INVALID_REQUEST'],
  ];
  for (const [beside, reason] of refused) {
    const { status, text } = await fetchWith(beside);
    assert.equal(status, 400, `${JSON.stringify(beside)} was answered with ${text}`);
    assert.equal((JSON.parse(text) as { reason: string }).reason, reason, text);
  }
  const taken: Beside[] = [
    { headers: { [IDENTIFIER]: 'one' } },
    { headers: { [ATTRIBUTES]: 'adapter=one' } },
    { path: '/models/base/invoke?adapter=one&model_name=base' },
    { path: '/v1/chat/completions', body: { inputs: 'x', adapters: ['one'] } },
    { body: { model: 'one' } },
    { body: { model: 'base' } },
    { body: { adapters: [{ name: 'one', weight: 1 }] } },
    { body: {} },
    { headers: { 'X-Amzn-SageMaker-Target-Model': 'base.tar.gz' } },
  ];
  for (const beside of taken) assert.deepEqual(await fetchWith(beside), whole, JSON.stringify(beside));
});

test('a fetch of an answer of the base model, or of several inputs, is held to that', async (t) => {
  const base = await answered(t, { inputs: 'x' });
  assert.equal((await base.fetchWith({ headers: { [IDENTIFIER]: '' } })).status, 200);
  assert.equal((await base.fetchWith({ headers: { [IDENTIFIER]: 'one' } })).status, 400);
  const list = await answered(t, { inputs: ['x', 'y'], adapters: ['one', 'two'] });
  assert.equal((await list.fetchWith({ body: { adapters: ['one', 'two'] } })).status, 200);
  assert.equal((await list.fetchWith({ body: { adapters: ['two', 'one'] } })).status, 400);
  assert.equal((await list.fetchWith({ headers: { [IDENTIFIER]: 'one' } })).status, 400);
});

test('a fetch may repeat its whole request, with what that has and nothing reads', async (t) => {
  const request = { inputs: ['x'], adapters: ['one'], model: 'gpt', user: 'me', parameters: { seed: 1, odd: 2 } };
  const { fetchWith } = await answered(t, request);
  assert.equal((await fetchWith({ path: '/predictions/base', body: request })).status, 200);
  assert.equal((await fetchWith({ path: '/predictions/base', body: { ...request, model: 'gtp' } })).status, 400);
});

test('in mode djl the first place of a fetch is the one that has to agree', async (t) => {
  const request = { inputs: 'x', adapters: 'two' };
  const url = await serve(t, memoryServices(['base', 'other']), { compat: 'djl' });
  const headers = { 'x-synchronous': 'false', [IDENTIFIER]: 'one' };
  const token = (await postJson(`${url}/predictions/base`, request, headers)).headers.get('x-next-token')!;
  const statusOf = async (beside: Record<string, string>, body: object) =>
    (await postJson(`${url}/predictions/base`, body, { 'x-starting-token': token, ...beside })).status < 300;
  assert.equal(await statusOf({ [IDENTIFIER]: 'one' }, request), true);
  assert.equal(await statusOf({ [IDENTIFIER]: 'two' }, request), false);
  assert.equal(await statusOf({}, request), false);
});

test('platforms that pass on the custom attributes only can ask for a token and fetch by it', async (t) => {
  const url = `${await serve(t, memoryServices())}/invocations`;
  const request = { inputs: 'x', adapters: 'one', stream: true, parameters: { max_new_tokens: 4 } };
  const whole = await (await postJson(url, request)).text();
  const accepted = await postJson(url, request, { [ATTRIBUTES]: 'trace=1;x-synchronous=false' });
  assert.equal(await accepted.text(), '');
  let body = '';
  for (let next = accepted.headers.get('x-next-token'); next !== null; ) {
    // The whole request again, and a second line of attributes, which HTTP joins to the first with a comma.
    const attributes = `trace=1;x-synchronous=false, x-starting-token=${next};x-max-items=1`;
    const answer = await postJson(url, request, { [ATTRIBUTES]: attributes });
    assert.ok(answer.status < 300, `status ${answer.status}`);
    const text = await answer.text();
    assert.ok(text === '' || text.match(/\n/g)?.length === 1, 'one line at most');
    body += text;
    next = answer.headers.get('x-next-token');
  }
  assert.equal(body, whole);
  const twice = { 'x-starting-token': 'a', [ATTRIBUTES]: 'x-starting-token=b' };
  assert.equal((await postJson(url, request, twice)).status, 400);
});
