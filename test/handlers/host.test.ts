import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { InputParts } from '../../sdk/handler-input.js';
import { AppError } from '../../server/errors.js';
import type { HostAnswer } from '../../server/handlers/handler-calls.js';
import { CALL, input, started } from './started-host.js';

async function bodyOf({ body }: HostAnswer): Promise<string> {
  if (body === undefined || typeof body === 'string') return body ?? '';
  if (body instanceof Uint8Array) return Buffer.from(body).toString();
  let text = '';
  for await (const piece of body) text += Buffer.from(piece as string).toString();
  return text;
}

const reason = (error: unknown) => (error instanceof AppError ? error.reason : String(error));

test('a handler sees properties, content and its model, and answers in every form', async (t) => {
  const host = await started(
    t,
    `import { output } from '@loramux/sdk/handler';
     export async function handle(input, context) {
       switch (input.getAsString()) {
         case 'text': return 'a text';
         case 'bytes': return Buffer.from([1, 2, 3]);
         case 'nothing': return undefined;
         case 'code': return output({ code: 418, properties: { 'x-pot': 'tea' }, body: { short: true } });
         case 'field code': return { code: 5 };
         case 'stream': return (async function* () { yield 'a'; yield { b: 1 }; yield Buffer.from('c'); })();
         default: return {
           properties: input.getProperties(), upper: input.getProperty('X-Name'), json: input.getAsJson(),
           keys: input.getContent().map(({ key }) => key), adapter: input.getAdapter() ?? null, empty: input.isEmpty(),
           missing: input.getAsString('nope') ?? null, model: context.model, option: context.properties['option.x'],
           request: context.requestId,
         };
       }
     }`,
  );
  const ask = async (text: string) => host.call('handle', input(text), CALL);
  assert.deepEqual(await ask('text'), {
    code: 200,
    headers: { 'content-type': 'text/plain; charset=utf-8' },
    body: 'a text',
    receipts: [],
  });
  assert.equal(await bodyOf(await ask('bytes')), '\x01\x02\x03');
  assert.equal((await ask('nothing')).code, 204);
  const coded = await ask('code');
  assert.equal(coded.code, 418);
  assert.equal(coded.headers['x-pot'], 'tea');
  assert.equal(coded.body, '{"short":true}');
  assert.equal((await ask('field code')).body, '{"code":5}');
  const stream = await ask('stream');
  assert.equal(stream.headers['content-type'], 'application/jsonlines');
  assert.equal(await bodyOf(stream), 'a{"b":1}\nc');
  const seen = await host.call(
    'handle',
    input('{"a":1}', [
      ['x-NAME', 'v'],
      ['adapter', 'fr'],
    ]),
    CALL,
  );
  assert.deepEqual(JSON.parse(seen.body as string), {
    properties: { 'x-name': 'v', adapter: 'fr' },
    upper: 'v',
    json: { a: 1 },
    keys: ['data'],
    adapter: 'fr',
    empty: false,
    missing: null,
    model: 'echo',
    option: 'y',
    request: 'r-1',
  });
});

test('what a handler throws is the message of that call alone', async (t) => {
  const host = await started(
    t,
    `import { HandlerError, output } from '@loramux/sdk/handler';
     export default { async handle(input) {
       const text = input.getAsString();
       if (text === 'throw') throw new Error('no such word');
       if (text === 'circle') { const circle = {}; circle.circle = circle; return circle; }
       if (text === 'status 99') return output({ code: 99, body: 'a' });
       if (text === 'status') throw new HandlerError('slow down', 429);
       if (text === 'stream') return (async function* () { yield 'a'; throw new Error('midway'); })();
       if (text === 'function') return { then: undefined, toJSON: () => undefined };
       if (text === 'Map') return new Map([['a', 1]]);
       if (text === 'Int32Array') return Int32Array.of(1);
       if (text === 'Generator') return (function* () { yield 'a'; })();
       if (text === 'a Set in a stream') return (async function* () { yield new Set(['a']); })();
       return text;
     } };`,
  );
  const failure = (text: string) =>
    host
      .call('handle', input(text), CALL)
      .then(bodyOf)
      .catch((error: unknown) => error);
  const [thrown, status, midway, unsendable, fine] = (await Promise.all(
    ['throw', 'status', 'stream', 'function', 'fine'].map(failure),
  )) as AppError[];
  assert.deepEqual([thrown!.reason, thrown!.message, thrown!.metadata], ['HANDLER_FAILED', 'no such word', {}]);
  assert.deepEqual([status!.reason, status!.metadata.status], ['HANDLER_FAILED', '429']);
  assert.deepEqual([midway!.reason, midway!.message], ['HANDLER_FAILED', 'midway']);
  assert.match(unsendable!.message, /cannot answer with/);
  assert.equal(fine as unknown, 'fine');
  // Of these JSON would make {}.
  for (const kind of ['Map', 'Int32Array', 'Generator'])
    assert.equal(((await failure(kind)) as AppError).message, `a handler cannot answer with a ${kind}`);
  assert.match(((await failure('circle')) as AppError).message, /^a handler cannot answer with this value: .*circular/);
  assert.match(
    ((await failure('status 99')) as AppError).message,
    /^a handler cannot answer with the status 99; 200 to/,
  );
  assert.equal(((await failure('a Set in a stream')) as AppError).message, 'a stream cannot hold a Set');
});

test('a crash fails what ran, and a new thread knows the adapters of the old one', async (t) => {
  const host = await started(
    t,
    `const adapters = [];
     export const registerAdapter = (input) => { adapters.push(input.getProperty('name')); };
     export async function handle(input) {
       if (input.getAsString() === 'crash') setImmediate(() => { throw new Error('out of the blue'); });
       if (input.getAsString() === 'exit') process.exit(3);
       if (input.getAsString() !== 'list') await new Promise(() => {});
       return adapters.join();
     }`,
    { registrations: () => [{ properties: [['name', 'fr']], content: [] }] },
  );
  const [crashed, other] = await Promise.allSettled([
    host.call('handle', input('crash'), CALL),
    host.call('handle', input('waits'), CALL),
  ]);
  assert.equal(crashed.status, 'rejected');
  assert.match(((crashed as PromiseRejectedResult).reason as AppError).message, /out of the blue/);
  assert.equal(reason((other as PromiseRejectedResult).reason), 'HANDLER_CRASHED');
  assert.equal((await host.call('handle', input('list'), CALL)).body, 'fr');
  await assert.rejects(host.call('handle', input('exit'), CALL), { reason: 'HANDLER_CRASHED' });
  assert.equal((await host.call('handle', input('list'), CALL)).body, 'fr');
});

test('a call that never ends is failed after its time; a thread that hangs is replaced', async (t) => {
  const host = await started(
    t,
    `let calls = 0;
     export async function handle(input) {
       calls++;
       if (input.getAsString() === 'forget') await new Promise(() => {});
       if (input.getAsString() === 'hang') for (;;) {}
       return String(calls);
     }`,
    { limits: { callMs: 300, memoryBytes: 64 * 1024 * 1024 } },
  );
  await assert.rejects(host.call('handle', input('forget'), CALL), { reason: 'HANDLER_TIMEOUT' });
  assert.equal((await host.call('handle', input('x'), CALL)).body, '2', 'the thread is the same');
  await assert.rejects(host.call('handle', input('hang'), CALL), { reason: 'HANDLER_TIMEOUT' });
  assert.equal((await host.call('handle', input('x'), CALL)).body, '1', 'the thread is a new one');
});

test('calls that are late together are lost alone: the thread that still answers stays', async (t) => {
  const host = await started(
    t,
    `let calls = 0;
     export async function handle(input) {
       calls++;
       if (input.getAsString() === 'forget') await new Promise(() => {});
       return String(calls);
     }`,
    { limits: { callMs: 300, memoryBytes: 64 * 1024 * 1024 } },
  );
  const late = await Promise.allSettled(['forget', 'forget'].map((text) => host.call('handle', input(text), CALL)));
  const reasons = late.map((one) => reason((one as PromiseRejectedResult).reason));
  assert.deepEqual(reasons, ['HANDLER_TIMEOUT', 'HANDLER_TIMEOUT']);
  assert.equal((await host.call('handle', input('x'), CALL)).body, '3', 'the thread is the same');
});

test('an adapter that ends each thread that is told of it is left out of new threads', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'loramux-starts-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const starts = path.join(folder, 'starts');
  const adapters: InputParts[] = [];
  const host = await started(
    t,
    `import { appendFileSync } from 'node:fs';
     appendFileSync(${JSON.stringify(starts)}, 'x');
     const known = [];
     export const registerAdapter = (input) => {
       if (input.getProperty('name') === 'fr') process.exit(3);
       if (input.getProperty('name') === 'de') for (;;);
       known.push(input.getProperty('name'));
     };
     export async function handle(input) {
       if (input.getAsString() === 'exit') process.exit(3);
       return known.join();
     }`,
    { registrations: () => adapters, limits: { callMs: 300, memoryBytes: 64 * 1024 * 1024 } },
  );
  for (const name of ['it', 'fr', 'de', 'es']) adapters.push({ properties: [['name', name]], content: [] });
  await assert.rejects(host.call('handle', input('exit'), CALL), { reason: 'HANDLER_CRASHED' });
  assert.equal((await host.call('handle', input('list'), CALL)).body, 'it,es');
  assert.equal((await host.call('handle', input('list'), CALL)).body, 'it,es');
  assert.equal(readFileSync(starts).length, 4, 'the first thread, two that were lost, and the one that answers');
});

test('a handler that needs too much memory is ended and started anew', async (t) => {
  const host = await started(
    t,
    `export async function handle(input) {
       const kept = [];
       if (input.getAsString() === 'fill') for (;;) kept.push(new Array(10_000).fill(kept.length));
       return 'small';
     }`,
    { limits: { callMs: 60_000, memoryBytes: 16 * 1024 * 1024 } },
  );
  await assert.rejects(host.call('handle', input('fill'), CALL), { reason: 'HANDLER_OUT_OF_MEMORY' });
  assert.equal((await host.call('handle', input('x'), CALL)).body, 'small');
});

test('a call that the server ends tells why: its client is still there and may try elsewhere', async (t) => {
  const host = await started(t, 'export async function handle() { await new Promise(() => {}); }');
  for (const [why, reason] of [
    [new AppError('SHUTTING_DOWN', 'the server is shutting down'), 'SHUTTING_DOWN'],
    [new DOMException('late', 'TimeoutError'), 'DEADLINE'],
  ] as const) {
    const cut = new AbortController();
    const waiting = host.call('handle', input('x'), { requestId: 'r', signal: cut.signal });
    setImmediate(() => cut.abort(why));
    await assert.rejects(waiting, { reason });
    await assert.rejects(host.call('handle', input('x'), { requestId: 'r', signal: cut.signal }), { reason });
  }
});

test('a client that leaves aborts the handler’s signal, and a stream stops when nobody reads', async (t) => {
  const host = await started(
    t,
    `let made = 0, aborted = 0, calls = 0;
     export async function handle(input, { signal }) {
       if (input.getAsString() === 'count') return { made, aborted, calls };
       calls++;
       signal.addEventListener('abort', () => aborted++);
       if (input.getAsString() === 'wait') await new Promise(() => {});
       return (async function* () { for (;;) yield String(made++); })();
     }`,
  );
  const counts = async () => JSON.parse((await host.call('handle', input('count'), CALL)).body as string);
  const leaving = new AbortController();
  const waiting = host.call('handle', input('wait'), { requestId: 'r', signal: leaving.signal });
  while ((await counts()).calls === 0);
  leaving.abort();
  await assert.rejects(waiting, { reason: 'CANCELED' });
  assert.equal((await counts()).aborted, 1);
  const { body } = await host.call('handle', input('endless'), CALL);
  const iterator = (body as AsyncIterable<string>)[Symbol.asyncIterator]();
  await iterator.next();
  let before = -1;
  for (let now = (await counts()).made; now !== before; now = (await counts()).made) before = now;
  assert.ok(before <= 64, `${before} pieces were made for a reader who took one`);
  await iterator.return!();
  assert.equal((await counts()).aborted, 2);
});

test('a module that cannot be loaded says why', async (t) => {
  await assert.rejects(started(t, 'export const other = 1;'), /exports no function handle/);
  await assert.rejects(started(t, 'syntax error'), /cannot be loaded/);
  await assert.rejects(started(t, 'throw new Error("at once")'), /at once/);
  await assert.rejects(started(t, 'process.exit(2)'), /ended with code 2/);
});
