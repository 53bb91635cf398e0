/** Adapters that bring chat templates, tokens and an end of the sequence of their own, through the public API. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { GOLDEN } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

const MODEL = `${GOLDEN}models/llama`;
const messages = [{ role: 'user', content: 'Hello there' }];
const SPARE = 200; // an id whose text the adapter says anew

/** What the server answers to a chat or a text. */
interface Answer {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly usage: { readonly prompt_tokens: number };
  readonly choices: { readonly text?: string; readonly message?: { readonly content: string } }[];
}

test("rows of an adapter are rendered by its own chat template; other rows by the model's", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'loramux-text-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const bring = (name: string, files: Readonly<Record<string, string>>, of = 'qv-r4') => {
    cpSync(`${GOLDEN}adapters/llama/${of}`, join(folder, name), { recursive: true });
    for (const [file, content] of Object.entries(files)) {
      mkdirSync(join(folder, name, file, '..'), { recursive: true });
      writeFileSync(join(folder, name, file), content);
    }
  };
  const ask = '{% for m in messages %}Q: {{ m.content }}\nA:{% endfor %}';
  const short = '{{ eos_token }}{{ messages[0].content }}';
  const added = [{ id: SPARE, content: '<|ask|>', special: true }];
  bring('plain', {});
  bring('ask', { 'chat_template.jinja': ask, 'tokenizer_config.json': JSON.stringify({ chat_template: 'no' }) });
  bring('same', { 'chat_template.jinja': ask }, 'all-r8');
  bring('several', {
    'chat_template.jinja': ask,
    'additional_chat_templates/short.jinja': short,
    'tokenizer_config.json': JSON.stringify({ eos_token: { content: '<|ask|>' } }),
    'tokenizer.json': JSON.stringify({ version: '1.0', added_tokens: added, model: { vocab: {} } }),
  });
  bring('listed', {
    'tokenizer_config.json': JSON.stringify({ chat_template: [{ name: 'default', template: short }] }),
  });
  bring('raising', { 'chat_template.jinja': "{{ raise_exception('only one turn') }}" });
  bring('unending', { 'chat_template.jinja': '{% for i in range(1000000000) %}{{ i }}{% endfor %}' });
  bring('nameless', {
    'additional_chat_templates/short.jinja': short,
    'additional_chat_templates/long.jinja': ask,
  });
  bring('broken', { 'chat_template.jinja': '{% for' });
  const url = await startServer(t, ['--model', MODEL, '--adapters', folder, '--log-level', 'error']);
  const post = async (body: object) => {
    const response = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ max_tokens: 5, ...body }),
    });
    return { status: response.status, json: (await response.json()) as Answer };
  };
  /** A chat must be answered as the rendered text is. The text's encoding begins with what the tokenizer adds. */
  const rendersAs = async (adapters: unknown, text: string, more: object = {}) => {
    const chat = await post({ messages, adapters, ...more });
    assert.equal(chat.status, 200, JSON.stringify(chat.json));
    const plain = await post({ prompt: text, adapters });
    const before = (await post({ prompt: 'a', adapters })).json.usage.prompt_tokens - 1;
    assert.equal(chat.json.usage.prompt_tokens, plain.json.usage.prompt_tokens - before, text);
    return chat.json;
  };
  const ofModel = (await post({ messages })).json;
  const plain = (await post({ messages, adapters: 'plain' })).json;
  assert.equal(plain.usage.prompt_tokens, ofModel.usage.prompt_tokens);

  const asked = 'Q: Hello there\nA:';
  await rendersAs('ask', asked);
  await rendersAs('several', asked);
  // A template is chosen by its name; special tokens are those of the adapter, and its texts for ids are known.
  await rendersAs('several', '<|ask|>Hello there', { chat_template: 'short' });
  await rendersAs('listed', '<|eot_id|>Hello there');
  const mix = (a: string, b: string) => [
    { name: a, weight: 0.5 },
    { name: b, weight: 0.5 },
  ];
  await rendersAs(mix('ask', 'plain'), asked);
  await rendersAs(mix('ask', 'same'), asked);
  assert.equal(
    (await post({ messages, adapters: [{ name: 'ask', weight: 0 }] })).json.usage.prompt_tokens,
    ofModel.usage.prompt_tokens,
  );
  const apart = await post({ messages, adapters: mix('ask', 'listed') });
  assert.equal(apart.status, 400);
  assert.equal(apart.json.reason, 'ADAPTER_NOT_MIXABLE');
  assert.match(JSON.stringify(apart.json), /chat template is not that of adapter/);
  assert.equal((await post({ prompt: asked, adapters: mix('ask', 'listed') })).status, 200);

  for (const [adapters, message] of [
    ['raising', /the adapter's chat template says: .*only one turn/],
    ['broken', /the adapter's chat template in its folder cannot be read/],
    ['nameless', /the adapter has several chat templates and none is named .*default.*; name one of .*long.*, .*short/],
    ['unending', /takes more than \d+ ms/],
  ] as const) {
    const { status, json } = await post({ messages, adapters });
    assert.equal(status, 400, adapters);
    assert.match(JSON.stringify(json), message);
    assert.equal((await post({ prompt: asked, adapters })).status, 200);
  }
  const unknown = await post({ messages, adapters: 'ask', chat_template: 'other' });
  assert.match(
    unknown.json.message ?? '',
    /neither the adapter nor the model has a chat template "other"; there is "default"$/,
  );
});

test('the end of a sequence and the tokens that an adapter names count for its rows', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'loramux-text-'));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(`${GOLDEN}adapters/llama/qv-r4`, join(folder, 'plain'), { recursive: true });
  cpSync(`${GOLDEN}adapters/llama/qv-r4`, join(folder, 'ends'), { recursive: true });
  writeFileSync(join(folder, 'ends', 'tokenizer_config.json'), JSON.stringify({ eos_token: '<|ask|>' }));
  const added = [{ id: 0, content: '<|ask|>', special: true }];
  writeFileSync(join(folder, 'ends', 'tokenizer.json'), JSON.stringify({ added_tokens: added }));
  const url = await startServer(t, ['--model', MODEL, '--adapters', folder, '--log-level', 'error']);
  const invoke = async (adapters: string, parameters: object) => {
    const response = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ inputs: 'Hello', adapters, parameters: { details: true, ...parameters } }),
    });
    return (await response.json()) as { details: { finish_reason: string; tokens: { id: number; text: string }[] } };
  };
  const forced = { max_new_tokens: 4, logit_bias: { 0: 100 } };
  const ended = await invoke('ends', forced);
  assert.equal(ended.details.finish_reason, 'eos_token');
  assert.deepEqual(
    ended.details.tokens.map(({ id }) => id),
    [0],
  );
  assert.equal((await invoke('plain', forced)).details.finish_reason, 'length');
});
