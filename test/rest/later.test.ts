import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '../../server/errors.js';
import type { Asked } from '../../server/rest/asked.js';
import { ANSWER_BYTES, LaterAnswers } from '../../server/rest/later.js';
import { lines, postJson, serve, until } from './http.js';
import { memoryServices } from './memory-services.js';

const LATER = { 'x-synchronous': 'false' };

/** An answer of the base model, and what it takes besides its pieces. */
const ASKED: Asked = {
  model: 'base',
  owner: 'base',
  modelField: undefined,
  from: { by: 'server', count: 1, isList: false, selections: [[]] },
};
const OWN_BYTES = ANSWER_BYTES + JSON.stringify(ASKED).length;

/** Fetches until the token is used up; every answer with its status. */
async function fetchAll(url: string, token: string, items?: number): Promise<{ statuses: number[]; body: string }> {
  const statuses: number[] = [];
  let body = '';
  for (let next: string | null = token; next !== null; ) {
    const headers: Record<string, string> = { 'x-starting-token': next };
    if (items !== undefined) headers['x-max-items'] = String(items);
    const answer = await fetch(url, { method: 'POST', headers });
    statuses.push(answer.status);
    body += await answer.text();
    next = answer.headers.get('x-next-token');
    if (answer.status >= 400) break;
  }
  return { statuses, body };
}

test('a request may ask for a token and fetch the answer by it, again and again', async (t) => {
  const services = memoryServices();
  const url = `${await serve(t, services)}/invocations`;
  const request = { inputs: ['HELD', 'x'], adapters: ['one', ''], parameters: { max_new_tokens: 3 } };
  const accepted = await postJson(url, request, LATER);
  assert.equal(accepted.status, 200);
  assert.equal(await accepted.text(), '');
  const token = accepted.headers.get('x-next-token')!;
  assert.equal(accepted.headers.get('x-amzn-sagemaker-custom-attributes'), `x-next-token=${token}`);
  const early = await fetch(url, { method: 'POST', headers: { 'x-starting-token': token } });
  assert.deepEqual([early.status, await early.text()], [202, ''], 'nothing is there yet');
  services.release();
  const { statuses, body } = await fetchAll(url, early.headers.get('x-next-token')!);
  assert.equal(statuses.at(-1), 200);
  assert.deepEqual(JSON.parse(body), await (await postJson(url, request)).json());
  const again = await fetch(url, { method: 'POST', headers: { 'x-starting-token': token } });
  assert.match(again.headers.get('x-loramux-adapter')!, /^one@[0-9a-f]{16}, base$/);
  assert.equal(again.headers.get('x-next-token'), null);
  assert.equal(await again.text(), body);
});

test('a stream is fetched in pieces of as many lines as wanted', async (t) => {
  const url = `${await serve(t, memoryServices())}/predictions/base`;
  const request = { inputs: 'x', stream: true, parameters: { max_new_tokens: 5 } };
  const whole = await (await postJson(url, request)).text();
  const token = (await postJson(url, request, LATER)).headers.get('x-next-token')!;
  const { body } = await fetchAll(url, token, 2);
  assert.equal(body, whole);
  const first = await fetch(url, { method: 'POST', headers: { 'x-starting-token': token, 'x-max-items': '2' } });
  assert.equal(first.headers.get('content-type'), 'application/jsonlines');
  assert.deepEqual(lines(await first.text()), lines(whole).slice(0, 2));
  const bad = await fetch(url, { method: 'POST', headers: { 'x-starting-token': token, 'x-max-items': '0' } });
  assert.equal(bad.status, 400);
});

test('what is wrong with a request is told at once, what fails later by its token', async (t) => {
  const url = `${await serve(t, memoryServices())}/invocations`;
  assert.equal((await postJson(url, { inputs: 'x', adapters: 'nope' }, LATER)).status, 424);
  assert.equal((await postJson(url, { inputs: 5 }, LATER)).status, 400);
  const failing = await postJson(url, { inputs: 'RAISE@2' }, LATER);
  const { statuses, body } = await fetchAll(url, failing.headers.get('x-next-token')!);
  assert.equal(statuses.at(-1), 503);
  assert.equal((JSON.parse(body) as { reason: string }).reason, 'ENGINE_FAILED');
  const midway = await postJson(url, { inputs: 'RAISE@2', stream: true }, LATER);
  const last = lines((await fetchAll(url, midway.headers.get('x-next-token')!)).body).at(-1)!;
  assert.equal(last.code, 503);
  for (const token of ['nope', '', 'a.b', `${'9'.repeat(400)}`]) {
    const answer = await fetch(url, { method: 'POST', headers: { 'x-starting-token': token } });
    assert.equal(answer.status, 400);
    assert.match(((await answer.json()) as { message: string }).message, /^Invalid x-starting-token/);
  }
});

test('an answer goes on when the client has left, and ends with the server', async (t) => {
  const services = memoryServices();
  const url = `${await serve(t, services)}/invocations`;
  const slow = await postJson(url, { inputs: 'SLOW@50', parameters: { max_new_tokens: 1000 } }, LATER);
  assert.equal(slow.status, 200);
  await until(() => services.running() === 1);
  assert.equal(services.calls[0]!.signal.aborted, false);
});

test('memory is bounded: the oldest complete answers make room, then new ones are refused', () => {
  const later = new LaterAnswers({ maxBytes: 2 * OWN_BYTES + 10, keepMs: 60_000 });
  const first = later.open(ASKED);
  first.push('12345');
  first.done();
  const second = later.open(ASKED);
  second.push('1234567');
  assert.throws(() => later.fetch(first.token, 9), { reason: 'INVALID_REQUEST' });
  assert.equal(later.bytes, OWN_BYTES + 7);
  second.push('x'.repeat(OWN_BYTES + 4));
  assert.equal((second.signal.reason as AppError).reason, 'SLOW_CONSUMER');
  assert.throws(() => later.open(ASKED), { reason: 'QUEUE_FULL' });
  second.done();
  assert.equal(later.fetch(second.token, 9).pieces.length, 2);
  assert.throws(() => later.fetch(`${second.token}.2`, 9), { reason: 'SLOW_CONSUMER' });
  const third = later.open(ASKED);
  assert.throws(() => later.fetch(second.token, 9), { reason: 'INVALID_REQUEST' });
  later.close(new AppError('SHUTTING_DOWN', 'over'));
  assert.equal((third.signal.reason as AppError).reason, 'SHUTTING_DOWN');
  assert.equal(later.bytes, 0);
});

test('answers without a piece are bounded, too: the oldest that failed make room for new ones', () => {
  const later = new LaterAnswers({ maxBytes: 10 * OWN_BYTES, keepMs: 60_000 });
  const tokens = Array.from({ length: 50 }, () => {
    const sink = later.open(ASKED);
    sink.fail(new AppError('ADAPTER_NOT_REGISTERED', 'no such adapter'));
    return sink.token;
  });
  const kept = tokens.filter((token) => {
    try {
      later.fetch(token, 9);
    } catch (error) {
      return (error as AppError).reason === 'ADAPTER_NOT_REGISTERED';
    }
    return false;
  });
  assert.deepEqual(kept, tokens.slice(-10));
  assert.equal(later.bytes, 10 * OWN_BYTES);
});

test('a complete answer is forgotten after its time', async () => {
  const later = new LaterAnswers({ maxBytes: 2 * OWN_BYTES, keepMs: 1 });
  const sink = later.open(ASKED);
  sink.push('x');
  assert.deepEqual(later.fetch(sink.token, 9).next, `${sink.token}.1`);
  sink.done();
  await until(() => later.bytes === 0);
  assert.throws(() => later.fetch(sink.token, 9), { reason: 'INVALID_REQUEST' });
});
