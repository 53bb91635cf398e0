/** An adapter with more ids than its base, and tokens of its own, through the public API. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GOLDEN } from '../engine/golden-model.js';
import { startServer } from '../rest/served.js';

const CASE = fileURLToPath(new URL('../fixtures/peft-cases/resized/', import.meta.url));
const BASE_IDS = 384;

test('an adapter with a vocabulary of its own reads and writes its tokens; other rows know nothing of them', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'loramux-vocabulary-'));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(CASE, join(folder, 'resized'), { recursive: true });
  cpSync(`${GOLDEN}adapters/llama/qv-r4`, join(folder, 'plain'), { recursive: true });
  const { prompts, vocab } = JSON.parse(readFileSync(`${CASE}expected.json`, 'utf8')) as {
    prompts: { ids: number[]; greedy: number[] }[];
    vocab: number;
  };
  const tokens = Array.from({ length: vocab - BASE_IDS }, (_, i) => ({
    id: BASE_IDS + i,
    content: `<new${i}>`,
    special: i > 0,
  }));
  writeFileSync(join(folder, 'resized', 'tokenizer.json'), JSON.stringify({ added_tokens: tokens }));
  const ends = prompts.flatMap(({ greedy }) => greedy).find((id) => id >= BASE_IDS)!;
  writeFileSync(
    join(folder, 'resized', 'tokenizer_config.json'),
    JSON.stringify({ eos_token: `<new${ends - BASE_IDS}>` }),
  );
  const url = await startServer(t, ['--model', `${GOLDEN}models/llama`, '--adapters', folder, '--log-level', 'error']);
  const invoke = async (body: object) => {
    const response = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    return { status: response.status, json: (await response.json()) as never };
  };
  const parameters = { max_new_tokens: 6, details: true, ignore_eos_token: true, decoder_input_details: true };

  const asIds = await invoke({ inputs: prompts.map(({ ids }) => ids), adapters: ['resized', 'resized'], parameters });
  type Answer = {
    generated_text: string;
    details: { finish_reason: string; tokens: { id: number }[]; prefill: { id: number; text: string }[] };
  };
  const answers = asIds.json as Answer[];
  for (const [i, { greedy }] of prompts.entries())
    assert.deepEqual(
      answers[i]!.details.tokens.map(({ id }) => id),
      greedy,
    );

  // Texts with the new tokens become their ids, and the ids their texts.
  const written = (await invoke({ inputs: 'a<new3>b<new0>', adapters: 'resized', parameters })).json as Answer;
  assert.deepEqual(
    written.details.prefill.filter(({ id }) => id >= BASE_IDS).map(({ id, text }) => ({ id, text })),
    [
      { id: BASE_IDS + 3, text: '<new3>' },
      { id: BASE_IDS, text: '<new0>' },
    ],
  );
  // The whole text of ids, and of a text that is cut, has them too.
  const full = { ...parameters, return_full_text: true, max_new_tokens: 1 };
  const whole = (await invoke({ inputs: [[65, BASE_IDS, 66]], adapters: ['resized'], parameters: full }))
    .json as Answer[];
  assert.ok(whole[0]!.generated_text.includes('<new0>'), whole[0]!.generated_text);
  const cut = { ...full, truncate: 3 };
  const tail = (await invoke({ inputs: 'xyz<new0>b', adapters: 'resized', parameters: cut })).json as Answer;
  assert.match(tail.generated_text, /^.{0,2}<new0>b/);
  // The token that ends a sequence for the adapter's tokenizer ends the row.
  const { ids, greedy } = prompts.find((prompt) => prompt.greedy.includes(ends))!;
  const honoured = { ...parameters, ignore_eos_token: false };
  const [stopped] = (await invoke({ inputs: [ids], adapters: ['resized'], parameters: honoured })).json as Answer[];
  assert.equal(stopped!.details.finish_reason, 'eos_token');
  assert.deepEqual(
    stopped!.details.tokens.map(({ id }) => id),
    greedy.slice(0, greedy.indexOf(ends) + 1),
  );

  for (const adapters of ['', 'plain']) {
    const { status, json } = await invoke({ inputs: [[1, BASE_IDS]], adapters: [adapters], parameters });
    assert.equal(status, 400, adapters);
    assert.equal((json as { reason: string }).reason, 'INVALID_REQUEST');
    const text = await invoke({ inputs: 'a<new3>b', adapters, parameters });
    assert.ok((text.json as Answer).details.prefill.every(({ id }) => id < BASE_IDS));
  }
  // A bias on a new id, and one that ends the answer; rows of others refuse both.
  const rule = { logit_bias: { [greedy[0]!]: -100, [BASE_IDS + 2]: 100 }, stop_token_ids: [BASE_IDS + 2] };
  const ruled = { inputs: [ids], adapters: ['resized'], parameters: { ...parameters, ...rule } };
  assert.deepEqual(
    ((await invoke(ruled)).json as Answer[])[0]!.details.tokens.map(({ id }) => id),
    [BASE_IDS + 2],
  );
  const refused = await invoke({ ...ruled, adapters: ['plain'] });
  assert.equal(refused.status, 400);
  assert.match(JSON.stringify(refused.json), /parameters\.(stop_token_ids|logit_bias)/);
  const beyond = await invoke({ inputs: [[1, vocab]], adapters: ['resized'], parameters });
  assert.equal(beyond.status, 400);
  const mixed = await invoke({ inputs: 'a', adapters: [{ name: 'resized', weight: 0.5 }], parameters });
  assert.equal((mixed.json as { reason: string }).reason, 'ADAPTER_NOT_MIXABLE');
});

test('merged, its vocabulary and its tokens are those of the model', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'loramux-vocabulary-'));
  t.after(() => rmSync(folder, { recursive: true }));
  cpSync(CASE, join(folder, 'resized'), { recursive: true });
  const { prompts } = JSON.parse(readFileSync(`${CASE}expected.json`, 'utf8')) as {
    prompts: { ids: number[]; greedy: number[] }[];
  };
  const added = [{ id: BASE_IDS, content: '<new0>', special: false }];
  writeFileSync(join(folder, 'resized', 'tokenizer.json'), JSON.stringify({ added_tokens: added }));
  writeFileSync(join(folder, 'resized', 'chat_template.jinja'), '{{ messages[0].content }}<new0>');
  const merge = ['--adapters', folder, '--merge', 'resized'];
  const url = await startServer(t, ['--model', `${GOLDEN}models/llama`, ...merge, '--log-level', 'error']);
  const post = async (body: object) => {
    const headers = { 'content-type': 'application/json' };
    return (await fetch(`${url}/invocations`, { method: 'POST', headers, body: JSON.stringify(body) })).json();
  };
  const parameters = { max_new_tokens: 6, details: true, ignore_eos_token: true, decoder_input_details: true };
  type Token = { id: number; text: string };
  type Answer = { details: { tokens: Token[]; prefill: Token[] } };
  const answers = (await post({ inputs: prompts.map(({ ids }) => ids), parameters })) as Answer[];
  for (const [i, { greedy }] of prompts.entries())
    assert.deepEqual(
      answers[i]!.details.tokens.map(({ id }) => id),
      greedy,
    );
  const text = (await post({ inputs: 'a<new0>', parameters })) as Answer;
  assert.equal(text.details.prefill.at(-1)!.id, BASE_IDS);
  type Chat = { usage: { prompt_tokens: number } };
  const chat = (await post({ messages: [{ role: 'user', content: 'a' }], max_tokens: 1 })) as Chat;
  assert.equal(chat.usage.prompt_tokens, 2);
});
