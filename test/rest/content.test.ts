import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serve } from './http.js';
import { memoryServices } from './memory-services.js';

/** What answered: the adapters' names, or the status and message of a refusal. */
async function outcome(answer: Response): Promise<string> {
  const { message = '' } = (answer.ok ? {} : await answer.json()) as { message?: string };
  const names = answer.headers.get('x-loramux-adapter')?.replace(/@[0-9a-f]+/g, '');
  return names ?? `${answer.status} ${message}`;
}

test('a form is the body under data, with adapter and model beside it', async (t) => {
  const services = memoryServices(['base', 'other']);
  const url = await serve(t, services);
  const send = (fields: Record<string, string>, path = '/predictions/base') =>
    fetch(url + path, { method: 'POST', body: new URLSearchParams(fields) }).then(outcome);
  assert.equal(await send({ data: 'Hello', adapter: 'one' }), 'one');
  assert.equal(await send({ data: '{"inputs": ["a", "b"], "adapters": ["one", "two"]}' }), 'one, two');
  assert.equal(await send({ data: '{"inputs": "a"}', adapter: 'two', model_name: 'other' }, '/invocations'), 'two');
  assert.equal(services.requests.at(-1)!.model, 'other');
  assert.match(await send({ data: 'Hello', adapter: 'nope' }), /^424 adapter "nope" is not registered/);
  assert.match(await send({ data: '{"inputs": "a", "adapters": "one"}', adapter: 'two' }), /^400 the body asks for/);
  assert.match(await send({ data: 'a', inputs: 'b' }), /^400 the form has data.*beside it inputs/);
});

test('numbers and booleans of prompt and messages bodies are read as such in a form, strictly', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const send = async (fields: Record<string, string>, multipart = false): Promise<string> => {
    const body = multipart ? new FormData() : new URLSearchParams();
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    return outcome(await fetch(`${url}/invocations`, { method: 'POST', body }));
  };
  const values = { max_tokens: '2', temperature: '0.5', ignore_eos: 'true', logit_bias: '{"5": -1}', stop: '5' };
  const messages = '[{"role": "user", "content": "a"}]';
  for (const prompt of [{ prompt: '5' }, { messages }] as Record<string, string>[]) {
    for (const multipart of [false, true]) {
      assert.equal(await send({ ...prompt, ...values }, multipart), 'base');
      const { maxNewTokens, temperature, ignoreEos, stop } = services.requests.at(-1)!.parameters!;
      assert.deepEqual(
        { maxNewTokens, temperature, ignoreEos, stop },
        {
          ...{ maxNewTokens: 2, temperature: 0.5, ignoreEos: true, stop: ['5'] },
        },
      );
    }
  }
  for (const wrong of ['2x', '"2"', '', '0x2', '2,5', 'NaN', 'true']) {
    assert.match(await send({ prompt: 'a', max_tokens: wrong }), /^400 max_tokens must be a number, not /, wrong);
  }
  assert.match(await send({ prompt: 'a', echo: '1' }), /^400 echo must be true or false, not 1/);
});

test('a form may name the fields of the request one by one, repeated ones are lists', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const send = (fields: [string, string][]) =>
    fetch(`${url}/invocations`, { method: 'POST', body: new URLSearchParams(fields) }).then(outcome);
  const two: [string, string][] = [
    ['inputs', 'a'],
    ['inputs', '[not a list'],
    ['adapters', 'one'],
    ['adapters', ''],
    ['parameters', '{"max_new_tokens": 2}'],
  ];
  assert.equal(await send(two), 'one, base');
  const { inputs, parameters } = services.requests.at(-1)!;
  assert.deepEqual(
    inputs.map(({ prompt }) => prompt),
    ['a', '[not a list'].map((text) => ({ kind: 'text', text })),
  );
  assert.equal(parameters!.maxNewTokens, 2);
  assert.equal(await send([['inputs', '["a","b"]']]), 'base');
  assert.equal(await send([['prompt', 'only field']]), 'base');
  assert.match(await send([...two, ['parameters', '{}']]), /^400 the form has several fields named parameters/);
  assert.match(
    await send([
      ['inputs', 'a'],
      ['stream', 'perhaps'],
    ]),
    /^400 the field stream/,
  );
  assert.match(
    await send(Array.from({ length: 300 }, () => ['inputs', 'a'])),
    /^400 the form has more than 256 fields/,
  );
});

test('multipart parts have the content type that they say, files included', async (t) => {
  const url = await serve(t, memoryServices());
  const send = (form: FormData) => fetch(`${url}/invocations`, { method: 'POST', body: form }).then(outcome);
  const form = (data: string | Blob, adapter?: string) => {
    const made = new FormData();
    made.append('data', data as string);
    if (adapter !== undefined) made.append('adapter', adapter);
    return made;
  };
  assert.equal(await send(form('Hello', 'two')), 'two');
  assert.equal(await send(form(new Blob(['{"inputs": ["a", "b"]}'], { type: 'application/json' }), 'one')), 'one');
  assert.equal(await send(form(new Blob(['inputs,adapter\na,one\nb,two\n'], { type: 'text/csv' }))), 'one, two');
  assert.match(await send(form(new Blob(['{'], { type: 'application/json' }))), /^400 the body is not valid JSON/);
  assert.match(await send(form(new Blob(['x'], { type: 'image/png' }))), /^400 content type image\/png/);
  const cut = await fetch(`${url}/invocations`, {
    method: 'POST',
    headers: { 'content-type': 'multipart/form-data; boundary=b' },
    body: '--b\r\nContent-Disposition: form-data; name="data"\r\n\r\nHel',
  });
  assert.match(await outcome(cut), /^400 the multipart body is broken/);
  const unbounded = { method: 'POST', headers: { 'content-type': 'multipart/form-data' }, body: 'x' };
  assert.match(await outcome(await fetch(`${url}/invocations`, unbounded)), /^400 the multipart body is broken/);
});

test('CSV has a header row and an input in each further one', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const send = (body: string) =>
    fetch(`${url}/invocations`, { method: 'POST', headers: { 'content-type': 'text/csv' }, body });
  const answer = await send('\ufeffadapters,inputs,note\r\none,"a ""quoted"", text",x\r\n,"two\nlines",y\r\n');
  assert.equal(answer.headers.get('x-loramux-ignored'), 'note');
  assert.equal(await outcome(answer), 'one, base');
  assert.deepEqual(
    services.requests.at(-1)!.inputs.map(({ prompt }) => prompt),
    ['a "quoted", text', 'two\nlines'].map((text) => ({ kind: 'text', text })),
  );
  assert.match(await outcome(await send('text\na\n')), /^400 the first line of the CSV must name/);
  assert.match(await outcome(await send('inputs\n')), /^400 the CSV has no row/);
  assert.match(await outcome(await send('inputs\n"a\n')), /^400 the body is not valid CSV/);
  assert.match(await outcome(await send('inputs,adapters\na\n')), /^400 the body is not valid CSV/);
  assert.match(await outcome(await send('inputs,inputs\na,b\n')), /^400 the CSV names the column inputs twice/);
  const both = await outcome(await send('inputs,adapters,adapter\na,one,two\n'));
  assert.match(both, /^400 the CSV names the column adapters twice, once as adapter/);
});

test('bytes that are no text, and packed bodies, are refused and never answered in another form', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  const send = (type: string, body: string, headers: Record<string, string> = {}) =>
    fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': type, ...headers },
      body: Buffer.from(body, 'latin1'),
    }).then(outcome);
  const form = 'application/x-www-form-urlencoded';
  assert.match(await send(form, 'inputs=%ff'), /^400 the field inputs of the form is not valid UTF-8/);
  assert.match(await send(form, 'inputs=\xff'), /^400 the field inputs of the form is not valid UTF-8/);
  const part = (text: string) => `--X\r\nContent-Disposition: form-data; name="inputs"\r\n\r\n${text}\r\n--X--\r\n`;
  const multipart = 'multipart/form-data; boundary=X';
  assert.match(await send(multipart, part('\xff')), /^400 the multipart body is broken: inputs is not valid UTF-8/);
  assert.match(
    await send('application/json', '{"inputs": "a"}', { 'content-encoding': 'br' }),
    /^400 .*content-encoding br/,
  );
  assert.match(await send('garbage', '{"inputs": "a"}'), /^400 the content-type header is no media type/);
  assert.match(await send('text/plain; charset=klingon', 'a'), /^400 the charset klingon is not known/);
  assert.equal(services.requests.length, 0);
  for (const [type, body] of [
    [form, 'inputs=caf%C3%A9+1%2B1'],
    [multipart, part('caf\xc3\xa9 1+1')],
    ['text/plain; charset=ISO-8859-1', 'caf\xe9 1+1'],
    ['text/plain; charset="utf-16le"', Buffer.from('café 1+1', 'utf16le').toString('latin1')],
  ] as const) {
    assert.equal(await send(type, body), 'base');
    assert.deepEqual(services.requests.at(-1)!.inputs[0]!.prompt, { kind: 'text', text: 'café 1+1' }, type);
  }
});

test('a header may name an adapter outside of ASCII', async (t) => {
  const services = memoryServices();
  const url = await serve(t, services);
  for (const name of ['日本', 'caf\xe9']) {
    const answer = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: {
        'X-Amzn-SageMaker-Adapter-Identifier': Buffer.from(name, name < '\xff' ? 'latin1' : 'utf8').toString('latin1'),
      },
      body: '{"inputs": "a"}',
    });
    assert.equal(((await answer.json()) as { metadata: { adapter: string } }).metadata.adapter, name);
  }
});

test('server-sent events are for who accepts them, in any letter case', async (t) => {
  const url = await serve(t, memoryServices());
  for (const [accept, type] of [
    ['TEXT/EVENT-STREAM', 'text/event-stream; charset=utf-8'],
    ['application/json, text/event-stream;q=0.5', 'text/event-stream; charset=utf-8'],
    ['text/event-stream;q=0', 'application/jsonlines'],
  ] as const) {
    const answer = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { accept },
      body: '{"inputs": "a", "stream": true}',
    });
    assert.equal(answer.headers.get('content-type'), type);
    await answer.text();
  }
});
