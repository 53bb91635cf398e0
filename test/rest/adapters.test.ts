import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { postJson, serve } from './http.js';
import { memoryServices } from './memory-services.js';

let source: string;
before(() => {
  source = mkdtempSync(path.join(tmpdir(), 'loramux-adapter-'));
  writeFileSync(path.join(source, 'adapter_config.json'), '{}');
});
after(() => rmSync(source, { recursive: true, force: true }));

async function call(url: string, method: string, headers: Record<string, string> = {}): Promise<[number, unknown]> {
  const answer = await fetch(url, { method, headers });
  return [answer.status, await answer.json()];
}

for (const prefix of ['/models/base/adapters', '/adapters']) {
  test(`${prefix}: register, describe, list, delete`, async (t) => {
    const url = (await serve(t, memoryServices())) + prefix;
    const record = { name: 'new', src: source, preload: true, pin: false };
    const query = `name=new&src=${encodeURIComponent(source)}&color=red`;
    assert.deepEqual(await call(`${url}?${query}`, 'POST'), [200, { status: 'Adapter new registered' }]);
    assert.deepEqual(await call(`${url}/new`, 'GET'), [200, record]);
    const [, verbose] = (await call(`${url}/new?verbose=true`, 'GET')) as [number, Record<string, unknown>];
    assert.deepEqual(verbose.options, { color: 'red' });
    assert.equal(verbose.state, 'ready');
    const [, list] = (await call(url, 'GET')) as [number, { adapters: { name: string }[] }];
    assert.deepEqual(
      list.adapters.map((adapter) => adapter.name),
      ['new', 'one', 'two'],
    );
    assert.deepEqual(list.adapters[0], record);
    assert.equal((await call(`${url}?${query}`, 'POST'))[0], 409);
    assert.deepEqual(await call(`${url}/new`, 'DELETE'), [200, { status: 'Adapter new unregistered' }]);
    assert.equal((await call(`${url}/new`, 'GET'))[0], 404);
  });
}

test('a JSON body registers as the query does, and must not contradict it', async (t) => {
  const services = memoryServices();
  const url = `${await serve(t, services)}/adapters`;
  assert.equal((await postJson(url, { name: 'a', src: source, pin: true })).status, 200);
  assert.equal((await services.adapters.get({ name: 'a' })).pin, true);
  assert.equal((await postJson(`${url}?name=b`, { name: 'c', src: source })).status, 400);
  assert.equal((await postJson(url, { name: 'd', src: { s3: 1 } })).status, 400);
  assert.equal((await postJson(url, ['d'])).status, 400);
});

test('parameters are checked after the model and before the adapter', async (t) => {
  const url = await serve(t, memoryServices(['base', 'plain']));
  const register = (model: string, query: string) => call(`${url}/models/${model}/adapters?${query}`, 'POST');
  assert.equal((await register('nope', ''))[0], 404);
  assert.equal((await register('plain', ''))[0], 400);
  for (const [query, said] of [
    ['', /^name is missing/],
    ['name=&src=x', /^name is missing/],
    ['name=a', /^src is missing/],
    ['name=a&src=x&pin=perhaps', /^pin must be true or false/],
    ['name=a&name=b&src=x', /^name is given several times/],
  ] as const) {
    const [status, body] = (await register('base', query)) as [number, { message: string; type: string }];
    assert.equal(status, 400);
    assert.equal(body.type, 'BadRequestException');
    assert.match(body.message, said);
  }
  assert.equal((await call(`${url}/adapters`, 'GET'))[0], 400);
});

test('another spelling of a parameter is no option: the call would be done without it', async (t) => {
  const services = memoryServices();
  const url = `${await serve(t, services)}/adapters`;
  for (const [slip, meant] of [
    ['Pin=true', 'pin'],
    ['pre-load=false', 'preload'],
    ['expectedDigest=00', 'expected_digest'],
    ['expected_digests=00', 'expected_digest'],
    ['expected_digets=00', 'expected_digest'],
    ['source=elsewhere', 'src'],
    ['Replace=true', 'replace'],
  ] as const) {
    for (const place of [`?name=new&src=${encodeURIComponent(source)}&`, '/one/update?pin=true&']) {
      const [status, body] = (await call(`${url}${place}${slip}`, 'POST')) as [number, { message: string }];
      assert.equal(status, 400, `${place}${slip}`);
      assert.match(body.message, new RegExp(`^${slip.split('=')[0]} is no parameter of this call; ${meant} is$`));
    }
  }
  await assert.rejects(services.adapters.get({ name: 'new' }));
  assert.equal((await services.adapters.get({ name: 'one' })).pin, false);
});

test('pages walk over all adapters once', async (t) => {
  const url = `${await serve(t, memoryServices())}/adapters`;
  const names: string[] = [];
  let token: string | undefined = '';
  while (token !== undefined) {
    const [status, page] = (await call(`${url}?limit=1&next_page_token=${token}`, 'GET')) as [
      number,
      { adapters: { name: string }[]; nextPageToken?: string },
    ];
    assert.equal(status, 200);
    names.push(...page.adapters.map((adapter) => adapter.name));
    token = page.nextPageToken;
  }
  assert.deepEqual(names, ['one', 'two']);
  assert.equal((await call(`${url}?limit=abc`, 'GET'))[0], 400);
  assert.equal((await call(`${url}?limit=0`, 'GET'))[0], 200);
});

test('the alias stands in status texts only', async (t) => {
  const url = `${await serve(t, memoryServices())}/adapters`;
  const alias = { 'x-amzn-sagemaker-adapter-alias': 'Pretty Name' };
  const query = `name=a&src=${encodeURIComponent(source)}`;
  assert.deepEqual(await call(`${url}?${query}`, 'POST', alias), [200, { status: 'Adapter Pretty Name registered' }]);
  assert.equal((await call(`${url}/Pretty%20Name`, 'GET'))[0], 404);
});

test('wrong methods are 405 with the right ones, further segments are no route', async (t) => {
  const url = await serve(t, memoryServices());
  for (const [method, path] of [
    ['PUT', '/adapters'],
    ['DELETE', '/adapters'],
    ['POST', '/adapters/one'],
    ['PATCH', '/models/base/adapters/one'],
    ['PUT', '/adapters/one/update'],
    ['POST', '/adapters/one/pin'],
    ['PATCH', '/models'],
  ] as const) {
    const [status, body] = (await call(url + path, method)) as [number, { type: string }];
    assert.equal(status, 405, `${method} ${path}`);
    assert.equal(body.type, 'MethodNotAllowedException');
  }
  assert.equal((await call(`${url}/models/base/1/adapters`, 'GET'))[0], 404);
  assert.equal((await call(`${url}/adapters/one`, 'GET'))[0], 200);
});

test('methods that no path takes are 405, too, and 404 where there is no path', async (t) => {
  const url = await serve(t, memoryServices());
  const send = async (method: string, path: string): Promise<[number | undefined, string | undefined]> => {
    const request = httpRequest(url + path, { method }).end();
    const [answer] = (await once(request, 'response')) as [IncomingMessage];
    answer.resume();
    return [answer.statusCode, answer.headers.allow];
  };
  for (const method of ['TRACE', 'PROPFIND', 'LOCK']) {
    assert.deepEqual(await send(method, '/adapters?limit=1'), [405, 'GET, POST, OPTIONS'], method);
    assert.deepEqual(await send(method, '/models/base/adapters/a%20b/'), [405, 'GET, DELETE, OPTIONS'], method);
    assert.deepEqual(await send(method, '/invocations'), [405, 'POST, OPTIONS'], method);
    assert.deepEqual(await send(method, '/nothing/here'), [404, undefined], method);
    assert.deepEqual(await send(method, '/models/base/1/adapters'), [404, undefined], method);
  }
});

test('models and health are listed in the original’s form', async (t) => {
  let draining = false;
  const services = memoryServices(['b', 'a']);
  const url = await serve(t, services, { draining: () => draining });
  const [, page] = (await call(`${url}/models?limit=1`, 'GET')) as [
    number,
    { models: object[]; nextPageToken: string },
  ];
  assert.deepEqual(page.models, [{ modelName: 'a', modelUrl: 'file:///models/a', status: 'READY' }]);
  const [, rest] = (await call(`${url}/models?next_page_token=${page.nextPageToken}`, 'GET')) as [number, object];
  assert.deepEqual(rest, { models: [{ modelName: 'b', modelUrl: 'file:///models/b', status: 'READY' }] });
  const [, described] = (await call(`${url}/models/a`, 'GET')) as [number, { models: { status: string }[] }[]];
  assert.equal(described[0]!.models[0]!.status, 'Healthy');
  assert.equal((await call(`${url}/models/c`, 'GET'))[0], 404);
  assert.deepEqual(await call(`${url}/ping`, 'GET'), [200, { a: { status: 'Healthy' }, b: { status: 'Healthy' } }]);
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE'])
    assert.equal((await call(`${url}/ping`, method))[0], 200, method);
  draining = true;
  assert.equal((await call(`${url}/ping`, 'GET'))[0], 503);
});

test('a path that cannot be decoded is refused as everything else is', async (t) => {
  const host = await serve(t, memoryServices());
  for (const place of ['/models/base/adapters/%zz', '/predictions/%', '/adapters/%C3']) {
    const answer = await fetch(host + place, { headers: { 'x-request-id': 'mine' } });
    const { code, type, reason, message } = (await answer.json()) as Record<string, unknown>;
    assert.deepEqual([answer.status, code, type, reason], [400, 400, 'BadRequestException', 'INVALID_REQUEST'], place);
    assert.ok(String(message).includes(place));
    assert.equal(answer.headers.get('x-request-id'), 'mine');
    assert.match(answer.headers.get('cache-control')!, /no-store/);
  }
});
