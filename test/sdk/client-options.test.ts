/** Options of clients and calls: what is no option, or has no value that it could have, is told at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoramuxClient as FetchClient } from '../../sdk/index.js';
import { LoramuxClient } from '../../sdk/node.js';

test('a text in place of the options of a client is told what they are', () => {
  for (const Client of [LoramuxClient, FetchClient])
    assert.throws(
      () => new Client('http://127.0.0.1:8080' as never),
      /^TypeError: options of a client must be an object, such as \{ baseUrl:/,
    );
});

const WRONG: readonly (readonly [options: object, message: RegExp])[] = [
  [
    { baseUrl: 'localhost:8080' },
    /^baseUrl must be an address such as "http:\/\/127.0.0.1:8080", not "localhost:8080"$/,
  ],
  [{ baseUrl: '127.0.0.1:8080' }, /^baseUrl must be an address/],
  [{ baseUrl: '' }, /^baseUrl must be an address/],
  [{ baseUrl: 'ftp://127.0.0.1' }, /^baseUrl must be an address/],
  [{ baseUrl: 8080 }, /^baseUrl must be an address/],
  [{ timeout: 5000 }, /^LoramuxClientOptions has no field timeout; there are baseUrl, timeoutMs/],
  [{ timeoutMs: '5000' }, /^timeoutMs must be a number of milliseconds, not 5000$/],
  [{ timeoutMs: Number.NaN }, /^timeoutMs must be a number/],
  [{ maxRetries: -1 }, /^maxRetries must be a number, 0 or more, not -1$/],
  [{ maxRetries: '3' }, /^maxRetries must be a number/],
  [{ headers: new Headers({ authorization: 'x' }) }, /^headers must be an object of names and values$/],
  [{ headers: 'authorization: x' }, /^headers must be an object/],
];

test('an option of a client that is none, or has no sensible value, is refused when the client is made', () => {
  for (const Client of [LoramuxClient, FetchClient])
    for (const [options, message] of WRONG)
      assert.throws(() => new Client(options as never), { name: 'TypeError', message }, JSON.stringify(options));
  for (const protocol of ['http', 'connect-h2', ''])
    assert.throws(() => new LoramuxClient({ protocol: protocol as never }), /^TypeError: protocol must be 'grpc', /);
  assert.throws(() => new FetchClient({ protocol: 'grpc' } as never), /no field protocol; there are .*fetch$/);
});

test('an option of a call that is none, or has no sensible value, is refused before anything is sent', async (t) => {
  const client = new LoramuxClient({ baseUrl: 'http://127.0.0.1:1', maxRetries: 0 });
  t.after(() => client.close());
  const controller = new AbortController();
  const wrong = [...WRONG.filter(([options]) => !('baseUrl' in options) && !('timeout' in options))];
  for (const [options, message] of [
    ...wrong,
    [{ timeout: 5000 }, /^CallOptions has no field timeout; there are signal, timeoutMs, maxRetries, headers$/],
    [{ signal: controller }, /^signal must be an AbortSignal, as controller.signal is$/],
  ] as const) {
    const expected = { name: 'TypeError', message };
    await assert.rejects(client.predict('hi', options as never), expected, JSON.stringify(options));
    assert.throws(() => client.stream('hi', options as never), expected, JSON.stringify(options));
    await assert.rejects(client.adapters.get('fr', {}, options as never), expected, JSON.stringify(options));
  }
});

test('a call whose budget is used up is late, not wrong', async (t) => {
  const client = new LoramuxClient({ baseUrl: 'http://127.0.0.1:1', maxRetries: 0 });
  t.after(() => client.close());
  await assert.rejects(client.predict('hi', { timeoutMs: -5 }), { name: 'DeadlineError' });
});

test('a page may name a place on the server that it is from', (t) => {
  const scope = globalThis as { location?: unknown };
  scope.location = { href: 'https://app.example/chat' };
  t.after(() => {
    delete scope.location;
  });
  new FetchClient({ baseUrl: '/loramux' });
  assert.throws(() => new FetchClient({ baseUrl: 'localhost:8080' }), /baseUrl must be/);
});

test('what is no parameter of a call is refused: options of the call are its last argument', async (t) => {
  const client = new LoramuxClient({ baseUrl: 'http://127.0.0.1:1', maxRetries: 0 });
  t.after(() => client.close());
  const { adapters, models, workflows } = client;
  const { signal } = new AbortController();
  const params = { signal } as never;
  const calls: readonly (() => unknown)[] = [
    () => adapters.get('fr', params),
    () => adapters.list(params),
    () => adapters.log(params),
    () => adapters.rollback('fr', params),
    () => adapters.validate('folder', params),
    () => adapters.watch(params),
    () => adapters.aliases.delete('fr', params),
    () => adapters.aliases.get('fr', params),
    () => adapters.aliases.list(params),
    () => models.list(params),
    () => models.unregister('m', params),
    () => workflows.delete('w', params),
    () => workflows.get('w', params),
    () => workflows.list(params),
  ];
  for (const call of calls) await assert.rejects(async () => call(), /^TypeError: .* has no field signal; there are /);
});
