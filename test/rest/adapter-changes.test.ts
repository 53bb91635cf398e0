/** Changes of registered adapters over HTTP, against the real adapter service. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { dir, managed } from '../service/managed.js';
import { serve } from './http.js';
import { memoryServices } from './memory-services.js';

// biome-ignore lint/suspicious/noExplicitAny: bodies of answers
type Json = Record<string, any>;

async function start(t: TestContext) {
  const { service } = managed({ model: 'base' });
  const url = await serve(t, { ...memoryServices(), adapters: service });
  const ask = async (method: string, path: string, body?: object, headers: Record<string, string> = {}) => {
    const answer = await fetch(url + path, {
      method,
      headers: { ...(body && { 'content-type': 'application/json' }), ...headers },
      ...(body && { body: JSON.stringify(body) }),
    });
    return [answer.status, (await answer.json()) as Json] as const;
  };
  return { url, ask };
}

test('update takes pin, un-pin, preload, options and a new source, and answers as the original', async (t) => {
  const { ask } = await start(t);
  await ask('POST', '/adapters?name=a&src=a0&color=red');
  const updated = [200, { status: 'Adapter a updated' }];
  assert.deepEqual(await ask('POST', '/adapters/a/update?pin=true'), updated);
  assert.equal((await ask('GET', '/adapters/a'))[1].pin, true);
  assert.deepEqual(await ask('POST', '/models/base/adapters/a/update', { pin: false, size: 'L' }), updated);
  assert.deepEqual(await ask('GET', '/adapters/a'), [200, { name: 'a', src: 'a0', preload: true, pin: false }]);
  assert.deepEqual((await ask('GET', '/adapters/a?verbose=true'))[1].options, { color: 'red', size: 'L' });
  assert.deepEqual(await ask('POST', '/adapters/a/update?preload=false'), updated);
  assert.equal((await ask('POST', '/adapters/a/update?preload=false&pin=true'))[0], 400);
  assert.deepEqual(await ask('POST', '/adapters/a/update?src=a1'), updated);
  assert.deepEqual(await ask('GET', '/adapters/a'), [200, { name: 'a', src: 'a1', preload: false, pin: false }]);
  const [status, refused] = await ask('POST', '/adapters/a/update?src=nothing-there');
  assert.deepEqual([status, refused.reason], [424, 'ADAPTER_SOURCE_INVALID']);
  assert.equal((await ask('GET', '/adapters/a'))[1].src, 'a1');
  assert.equal((await ask('POST', '/adapters/nope/update'))[0], 404);
  const alias = { 'x-amzn-sagemaker-adapter-alias': 'Pretty' };
  assert.deepEqual((await ask('POST', '/adapters/a/update?pin=true', undefined, alias))[1], {
    status: 'Adapter Pretty updated',
  });
});

test('an alias header is kept, shown by later answers, and replaced by the next one', async (t) => {
  const { ask } = await start(t);
  const alias = (text: string) => ({ 'X-Amzn-SageMaker-Adapter-Alias': text });
  const said = async (...request: Parameters<typeof ask>) => (await ask(...request))[1].status as string;
  assert.equal(
    await said('POST', '/adapters?name=a&src=a0&color=red', undefined, alias('Pretty')),
    'Adapter Pretty registered',
  );
  assert.equal(await said('POST', '/adapters/a/update?pin=true'), 'Adapter Pretty updated');
  assert.equal(await said('POST', '/adapters/a/update', { pin: false }, alias('Prettier')), 'Adapter Prettier updated');
  assert.equal(await said('POST', '/adapters/a/update?size=L', undefined, alias('')), 'Adapter Prettier updated');
  const kept = { color: 'red', size: 'L', 'x-amzn-sagemaker-adapter-alias': 'Prettier' };
  assert.deepEqual((await ask('GET', '/adapters/a?verbose=true'))[1].options, kept);
  assert.deepEqual(Object.keys((await ask('GET', '/adapters/a'))[1]), ['name', 'src', 'preload', 'pin']);
  for (const name of ['Pretty', 'Prettier']) assert.equal((await ask('GET', `/adapters/${name}`))[0], 404);
  assert.equal(await said('DELETE', '/adapters/a'), 'Adapter Prettier unregistered');
  assert.equal(await said('POST', '/adapters?name=a&src=a0'), 'Adapter a registered');
  assert.equal(await said('DELETE', '/adapters/a', undefined, alias('Late')), 'Adapter Late unregistered');
});

test('versions are listed, gone back to, and guarded by the digest that is expected', async (t) => {
  const { ask } = await start(t);
  await ask('POST', '/adapters?name=a&src=a0');
  assert.equal((await ask('POST', '/adapters?name=a&src=a1'))[0], 409);
  assert.equal((await ask('POST', '/adapters?name=a&src=a1&replace=true'))[0], 200);
  const [, info] = await ask('GET', '/adapters/a?verbose=true');
  const [first, second] = info.versions as { digest: string }[];
  assert.equal(info.digest, second!.digest);
  const stale = `expected_digest=${first!.digest}`;
  const [status, refused] = await ask('POST', `/adapters/a/update?src=a2&${stale}`);
  assert.deepEqual([status, refused.reason], [409, 'VERSION_CONFLICT']);
  assert.equal((await ask('DELETE', `/adapters/a?${stale}`))[0], 409);
  assert.equal((await ask('POST', `/adapters?name=a&src=a2&replace=true&${stale}`))[0], 409);
  const [gone, why] = await ask('POST', `/adapters?name=b&src=a2&replace=true&${stale}`);
  assert.deepEqual([gone, why.reason], [404, 'ADAPTER_NOT_FOUND']);
  const back = `digest=${first!.digest.slice(0, 12)}&expected_digest=${second!.digest}`;
  assert.equal((await ask('POST', `/adapters/a/update?${back}`))[0], 200);
  const [, now] = await ask('GET', '/adapters/a?verbose=true');
  assert.deepEqual([now.digest, now.src, now.versions.length], [first!.digest, 'a0', 2]);
  assert.equal((await ask('POST', '/adapters/a/update?digest=0123456789'))[0], 404);
  const [, withDigest] = await ask('POST', '/adapters?name=b&src=a0&digest=0123456789');
  assert.match(withDigest.message, /^digest belongs to updates/);
});

test('a weight is no option, and an update renames nothing', async (t) => {
  const { ask } = await start(t);
  for (const query of ['weight=0.5', 'weights=0.5']) {
    const [status, refused] = await ask('POST', `/adapters?name=a&src=a0&${query}`);
    assert.equal(status, 400, query);
    assert.match(refused.message, /belongs to requests for answers/);
  }
  assert.equal((await ask('POST', '/adapters', { name: 'a', src: 'a0', weight: 0.5 }))[0], 400);
  assert.equal((await ask('GET', '/adapters/a'))[0], 404);
  await ask('POST', '/adapters?name=a&src=a0&weight_decay=0.1');
  assert.equal((await ask('POST', '/adapters/a/update?weight=0.5'))[0], 400);
  const [status, refused] = await ask('POST', '/adapters/a/update', { name: 'b', pin: true });
  assert.deepEqual([status, refused.violations[0].field], [400, 'name']);
  assert.match(refused.message, /^name is "b", and the path names "a"/);
  assert.equal((await ask('POST', '/adapters/a/update', { name: 'a', pin: true }))[0], 200);
  const [, { pin, options }] = await ask('GET', '/adapters/a?verbose=true');
  assert.deepEqual([pin, options], [true, { weight_decay: '0.1' }]);
});

test('aliases are set, read and deleted', async (t) => {
  const { ask } = await start(t);
  await ask('POST', '/adapters?name=a&src=a0');
  await ask('POST', '/adapters?name=b&src=a1');
  const [status, alias] = await ask('PUT', '/aliases/live', {
    targets: [{ adapter: 'a', share: 9 }, { adapter: 'b' }],
  });
  assert.equal(status, 200);
  assert.deepEqual(alias.targets, [
    { adapter: 'a', share: 9 },
    { adapter: 'b', share: 1 },
  ]);
  assert.equal((await ask('PUT', '/models/base/aliases/live?adapter=b'))[0], 200);
  assert.deepEqual((await ask('GET', '/aliases'))[1].aliases[0].targets, [{ adapter: 'b', share: 1 }]);
  assert.deepEqual((await ask('DELETE', '/adapters/b'))[1].reason, 'ADAPTER_IN_USE');
  assert.equal((await ask('PUT', '/aliases/a?adapter=b'))[0], 409, 'an adapter has the name');
  assert.equal((await ask('PUT', '/aliases/x?adapter=nope'))[0], 404);
  assert.equal((await ask('PUT', '/aliases/x', { targets: [{ adapter: 'a', weight: 1 }] }))[0], 400);
  assert.equal((await ask('PUT', '/aliases/x'))[0], 400);
  assert.equal((await ask('DELETE', '/aliases/live'))[0], 200);
  assert.equal((await ask('GET', '/aliases/live'))[0], 404);
});

test('an alias is asked for in every place where an adapter is, in both modes', async (t) => {
  for (const compat of ['strict', 'djl'] as const) {
    const { service } = managed({ model: 'base' });
    const services = memoryServices();
    const url = await serve(t, { ...services, adapters: service }, { compat });
    const post = (path: string, body: object, headers: Record<string, string> = {}) =>
      fetch(url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify(body),
      });
    await post('/adapters?name=a&src=a0', {});
    await fetch(`${url}/aliases/live?adapter=a`, { method: 'PUT' });
    const inputs = 'x';
    for (const [path, body, headers] of [
      ['/invocations', { inputs, model: 'live' }],
      ['/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }], model: 'live' }],
      ['/invocations?adapter=live', { inputs }],
      ['/invocations', { inputs, adapters: ['live'] }],
      ['/invocations', { inputs }, { 'X-Amzn-SageMaker-Adapter-Identifier': 'live' }],
      ['/invocations', { inputs }, { 'X-Amzn-SageMaker-Custom-Attributes': 'adapter=live' }],
    ] as const) {
      const before = services.requests.length;
      await post(path, body, headers);
      assert.equal(services.requests.length, before + 1, `${compat} ${path} ${JSON.stringify(body)}`);
      assert.deepEqual(services.requests.at(-1)!.inputs[0]!.adapters, [{ name: 'live', weight: 1 }]);
    }
  }
});

test('the log tells who changed what, newest first', async (t) => {
  const { ask } = await start(t);
  await ask('POST', '/adapters?name=a&src=a0', undefined, { 'x-loramux-actor': 'ana' });
  await ask('DELETE', '/adapters/a');
  const [, page] = await ask('GET', '/adapter-events?limit=1');
  assert.deepEqual([page.events[0].action, page.events[0].actor], ['delete', '127.0.0.1']);
  const [, rest] = await ask('GET', `/models/base/adapter-events?next_page_token=${page.nextPageToken}&name=a`);
  const [created] = rest.events as Json[];
  assert.deepEqual([created!.action, created!.actor, created!.name], ['create', 'ana', 'a']);
  assert.match(created!.digest_after, /^[0-9a-f]{64}$/);
  assert.equal(rest.nextPageToken, undefined);
});

test('a watch tells what there is, then every change, and goes on from a token', async (t) => {
  const { ask, url } = await start(t);
  await ask('POST', `/adapters?name=a&src=${encodeURIComponent(join(dir, 'a0'))}`);
  const lines = async function* (query: string): AsyncGenerator<Json> {
    const answer = await fetch(`${url}/adapters?watch=true${query}`);
    assert.equal(answer.headers.get('content-type'), 'application/jsonlines');
    let text = '';
    for await (const chunk of answer.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
        if (at > 0) yield JSON.parse(text.slice(0, at));
        text = text.slice(at + 1);
      }
    }
  };
  const watch = lines('');
  assert.equal((await watch.next()).value!.adapter.name, 'a');
  const synced = (await watch.next()).value!;
  assert.deepEqual([synced.type, synced.snapshot], ['synced', true]);
  await ask('PUT', '/aliases/live', { targets: [{ adapter: 'a' }] });
  const alias = (await watch.next()).value!;
  assert.deepEqual([alias.type, alias.alias.targets], ['alias', [{ adapter: 'a', share: 1 }]]);
  await ask('DELETE', '/aliases/live');
  assert.equal((await watch.next()).value!.name, 'live');
  await ask('DELETE', '/adapters/a');
  const deleted = (await watch.next()).value!;
  assert.deepEqual([deleted.type, deleted.name], ['deleted', 'a']);
  await watch.return(undefined);
  const again = lines(`&resume_token=${synced.resume_token}`);
  const gone = [(await again.next()).value!, (await again.next()).value!];
  assert.deepEqual(
    gone.map(({ type, name }) => [type, name]),
    [
      ['deleted', 'live'],
      ['deleted', 'a'],
    ],
  );
  assert.deepEqual((await again.next()).value!.snapshot, false);
  await again.return(undefined);
  assert.equal((await ask('GET', '/adapters?watch=true&resume_token=x'))[0], 400);
});
