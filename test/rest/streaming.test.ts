import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { AppError } from '../../server/errors.js';
import { createRestApp } from '../../server/rest/app.js';
import { openRaw } from '../listener/raw-client.js';
import { lines, postJson, serve, until } from './http.js';
import { memoryServices } from './memory-services.js';

test('a stream is one JSON line a token; the last one has the text and the details', async (t) => {
  const url = await serve(t, memoryServices());
  const ask = { inputs: 'x', adapters: 'one', parameters: { max_new_tokens: 4, details: true } };
  const whole = (await (await postJson(`${url}/invocations`, ask)).json()) as { generated_text: string };
  const answer = await postJson(`${url}/invocations`, { ...ask, stream: true });
  assert.equal(answer.headers.get('content-type'), 'application/jsonlines');
  const all = lines(await answer.text());
  assert.equal(all.length, 4);
  for (const line of all) {
    const token = line.token as Record<string, unknown>;
    assert.deepEqual(Object.keys(token), ['id', 'text', 'log_prob']);
    assert.equal('index' in line, false);
  }
  assert.deepEqual(
    all.map((line) => 'generated_text' in line),
    [false, false, false, true],
  );
  const last = all.at(-1)! as { generated_text: string; details: Record<string, unknown> };
  assert.equal(last.generated_text, whole.generated_text);
  assert.equal(last.details.finish_reason, 'length');
  assert.equal(last.details.generated_tokens, 4);
  assert.equal('tokens' in last.details, false);
});

test('the texts of the lines join to the whole text, whatever ends the row', async (t) => {
  const url = await serve(t, memoryServices());
  for (const [inputs, parameters] of [
    ['EOS@3', {}],
    ['EOS@0', {}],
    ['x', { stop_sequences: ['e'] }],
    ['x', { max_new_tokens: 1 }],
  ] as const) {
    const text = await (await postJson(`${url}/invocations`, { inputs, stream: true, parameters })).text();
    const all = lines(text) as { token: { text: string }; generated_text?: string }[];
    assert.equal(all.map((line) => line.token.text).join(''), all.at(-1)!.generated_text);
    assert.equal(all.filter((line) => line.generated_text !== undefined).length, 1);
    assert.doesNotMatch(text, /\n\n/);
  }
});

test('a token is not held back until the next one is there', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const stop = new AbortController();
  // The second token would take a minute.
  const answer = await fetch(`${url}/invocations`, {
    method: 'POST',
    body: JSON.stringify({ inputs: 'RAISE@1', stream: true }),
    signal: stop.signal,
  });
  const first = lines(await answer.text());
  assert.equal(first.length, 2);

  const slow = http.request(`${url}/invocations`, { method: 'POST' });
  slow.on('error', () => {});
  slow.end(JSON.stringify({ inputs: 'SLOW@400', stream: true, parameters: { max_new_tokens: 1000 } }));
  const chunk = await new Promise<string>((resolve) =>
    slow.on('response', (response) => response.once('data', (data) => resolve(String(data)))),
  );
  assert.equal(lines(chunk).length, 1);
  slow.destroy();
  await until(() => services.running() === 0);
});

test('a list streams all its inputs, each line with its index', async (t) => {
  const url = await serve(t, memoryServices());
  const ask = { inputs: ['x', 'EOS@2', 'y'], adapters: ['one', '', 'two'], parameters: { max_new_tokens: 5 } };
  const whole = (await (await postJson(`${url}/invocations`, ask)).json()) as { generated_text: string }[];
  const all = lines(await (await postJson(`${url}/invocations`, { ...ask, stream: true })).text());
  const finals = all.filter((line) => 'generated_text' in line);
  assert.deepEqual(finals.map((line) => line.index).sort(), [0, 1, 2]);
  for (const line of finals) assert.equal(line.generated_text, whole[line.index as number]!.generated_text);
  for (const index of [0, 1, 2]) {
    const own = all.filter((line) => line.index === index) as { token: { text: string } }[];
    assert.equal(own.map((line) => line.token.text).join(''), whole[index]!.generated_text);
  }
});

test('server-sent events on Accept, and the receipt as a trailer', async (t) => {
  const url = await serve(t, memoryServices());
  const request = http.request(`${url}/invocations`, { method: 'POST', headers: { accept: 'text/event-stream' } });
  request.end(JSON.stringify({ inputs: 'x', adapters: 'two', stream: true, parameters: { max_new_tokens: 2 } }));
  const response = await new Promise<http.IncomingMessage>((resolve) => request.on('response', resolve));
  let text = '';
  for await (const data of response) text += data;
  assert.match(response.headers['content-type']!, /^text\/event-stream/);
  const events = text.split('\n\n').filter(Boolean);
  assert.equal(events.length, 2);
  for (const event of events) assert.ok(JSON.parse(event.replace(/^data: /, '')).token);
  assert.match(response.trailers['x-loramux-adapter']!, /^two@[0-9a-f]{16}$/);
});

test('a client of HTTP/1.0 has a stream to its end, by the close of the connection', async (t) => {
  const url = await serve(t, memoryServices());
  const body = JSON.stringify({ inputs: 'x', adapters: 'two', stream: true, parameters: { max_new_tokens: 3 } });
  const { socket, received, closed } = await openRaw(Number(new URL(url).port));
  socket.write(`POST /invocations HTTP/1.0\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  await closed;
  const [head, text] = received().split('\r\n\r\n') as [string, string];
  assert.match(head, /^HTTP\/1\.\d 200 /);
  assert.equal(lines(text).length, 3);
});

test('a failure before the first token is a status, one after it is the last line', async (t) => {
  const url = await serve(t, memoryServices());
  const early = await postJson(`${url}/invocations`, { inputs: 'RAISE@0', stream: true });
  assert.equal(early.status, 503);
  assert.equal(((await early.json()) as { reason: string }).reason, 'ENGINE_FAILED');
  const unknown = await postJson(`${url}/invocations`, { inputs: 'x', adapters: 'nope', stream: true });
  assert.equal(unknown.status, 424);
  const late = await postJson(`${url}/invocations`, { inputs: 'RAISE@2', stream: true });
  assert.equal(late.status, 200);
  const all = lines(await late.text());
  assert.equal(all.length, 3);
  assert.deepEqual(all.at(-1), { code: 503, error: 'the engine stopped', reason: 'ENGINE_FAILED' });
});

test('a client that leaves a stream ends its rows at once', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const request = http.request(`${url}/invocations`, { method: 'POST' });
  request.on('error', () => {});
  request.end(JSON.stringify({ inputs: ['x SLOW@1', 'y SLOW@1'], stream: true, parameters: { max_new_tokens: 1e6 } }));
  const response = await new Promise<http.IncomingMessage>((resolve) => request.on('response', resolve));
  await new Promise((resolve) => response.once('data', resolve));
  assert.equal(services.running(), 2);
  request.destroy();
  await until(() => services.running() === 0);
});

test('a client that does not read holds up nobody else', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const request = http.request(`${url}/invocations`, { method: 'POST' });
  request.on('error', () => {});
  request.end(JSON.stringify({ inputs: 'x', stream: true, parameters: { max_new_tokens: 1e6 } }));
  const response = await new Promise<http.IncomingMessage>((resolve) => request.on('response', resolve));
  response.pause();
  assert.equal((await postJson(`${url}/invocations`, { inputs: 'y' })).status, 200);
  request.destroy();
  await until(() => services.running() === 0);
});

test('chat and completion bodies answer in their own form', async (t) => {
  const url = await serve(t, memoryServices());
  const messages = [{ role: 'user', content: [{ type: 'text', text: 'Hi' }] }];
  const chat = (await (await postJson(`${url}/invocations`, { messages, max_tokens: 3, adapters: 'one' })).json()) as {
    object: string;
    choices: { message: { content: string }; finish_reason: string }[];
    usage: { completion_tokens: number };
  };
  assert.equal(chat.object, 'chat.completion');
  assert.equal(chat.choices[0]!.finish_reason, 'length');
  const named = await postJson(`${url}/invocations`, { messages, chat_template: 7 });
  assert.equal(named.status, 400);
  assert.match(await named.text(), /chat_template must be a text/);
  assert.equal(chat.usage.completion_tokens, 3);
  const streamed = await postJson(`${url}/invocations`, { messages, max_tokens: 3, adapters: 'one', stream: true });
  const events = (await streamed.text()).split('\n\n').filter(Boolean);
  assert.equal(events.pop(), 'data: [DONE]');
  const deltas = events.map((event) => JSON.parse(event.slice(6)).choices[0].delta.content ?? '');
  assert.equal(deltas.join(''), chat.choices[0]!.message.content);
  const completion = await postJson(`${url}/invocations`, { prompt: 'x', max_tokens: 2 });
  assert.equal(((await completion.json()) as { object: string }).object, 'text_completion');
});

test('calls that are cut by a shutdown say so: a stream in its last line, others with 503', async (t) => {
  const services = memoryServices();
  const cut = new AbortController();
  const url = await serve(t, services, { cut: cut.signal });
  const ask = (stream: boolean) =>
    postJson(`${url}/invocations`, { inputs: 'SLOW@1', stream, parameters: { max_new_tokens: 1e6 } });
  const streamed = await ask(true);
  const whole = ask(false);
  await until(() => getEventListeners(cut.signal, 'abort').length === 2);
  cut.abort(new AppError('SHUTTING_DOWN', 'the server is shutting down'));
  const last = lines(await streamed.text()).at(-1)!;
  assert.deepEqual([last.code, last.reason], [503, 'SHUTTING_DOWN']);
  assert.equal((await whole).status, 503);
  await until(() => getEventListeners(cut.signal, 'abort').length === 0);
});

test('a stream over HTTP/2 is the same, and a reset stream ends its rows', async (t) => {
  const services = memoryServices();
  const app = await createRestApp(services, { maxBodyBytes: 1024 });
  const server = http2.createServer((request, response) => app.routing(request as never, response as never));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const session = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  t.after(async () => {
    session.destroy();
    await new Promise((resolve) => server.close(resolve));
    await app.close();
  });
  const send = (body: object) => {
    const stream = session.request({ ':method': 'POST', ':path': '/invocations', 'content-type': 'application/json' });
    stream.on('error', () => {});
    stream.end(JSON.stringify(body));
    return stream;
  };
  const stream = send({ inputs: 'x', adapters: 'one', stream: true, parameters: { max_new_tokens: 3 } });
  let headers: http2.IncomingHttpHeaders = {};
  let trailers: http2.IncomingHttpHeaders = {};
  stream.on('response', (value) => {
    headers = value;
  });
  stream.on('trailers', (value) => {
    trailers = value;
  });
  let text = '';
  for await (const data of stream) text += data;
  assert.equal(headers[':status' as never], 200);
  assert.equal(lines(text).length, 3);
  assert.match(String(trailers['x-loramux-adapter']), /^one@/);
  const failed = send({ inputs: 'x'.repeat(2000) });
  const status = await new Promise((resolve) => failed.on('response', (value) => resolve(value[':status'])));
  assert.equal(status, 413);
  const left = send({ inputs: 'SLOW@1', stream: true, parameters: { max_new_tokens: 1e6 } });
  await new Promise((resolve) => left.once('data', resolve));
  left.close(http2.constants.NGHTTP2_CANCEL);
  await until(() => services.running() === 0);
});
