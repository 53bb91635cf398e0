/** The embedded demo model over HTTP: PyTorch's answers for the base and every adapter, all in one mixed request. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { startServer } from '../rest/served.js';

interface Case {
  readonly adapter: string;
  readonly prompt: string;
  readonly kind: 'text' | 'chat';
  readonly prompt_ids: number[];
  readonly ids: number[];
  readonly text: string;
  readonly logprobs: number[];
}

const expected = JSON.parse(readFileSync(new URL('../../models/demo/expected.json', import.meta.url), 'utf8')) as {
  max_new_tokens: number;
  cases: Case[];
};

test('answers as PyTorch does, text and chat, base and every adapter', async (t) => {
  const url = await startServer(t, ['--log-level', 'error']);
  const adapterOf = ({ adapter }: Case) => (adapter === 'base' ? '' : adapter);
  const ask = async (cases: Case[], inputs: unknown[]) => {
    const response = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        inputs,
        adapters: cases.map(adapterOf),
        parameters: { max_new_tokens: expected.max_new_tokens, details: true },
      }),
    });
    assert.equal(response.status, 200);
    const answers = (await response.json()) as {
      generated_text: string;
      details: { tokens: { id: number; log_prob: number }[]; input_length: number };
    }[];
    for (const [i, wanted] of cases.entries()) {
      const where = `${wanted.adapter} (${wanted.kind}): ${wanted.prompt}`;
      const { generated_text, details } = answers[i]!;
      assert.deepEqual(
        details.tokens.map(({ id }) => id),
        wanted.ids,
        where,
      );
      assert.equal(generated_text, wanted.text, where);
      assert.equal(details.input_length, wanted.prompt_ids.length, where);
      for (const [at, logprob] of wanted.logprobs.entries()) {
        assert.ok(Math.abs(details.tokens[at]!.log_prob - logprob) < 5e-4, `${where}, token ${at}`);
      }
    }
  };
  const bare = expected.cases.filter(({ kind }) => kind === 'text');
  await ask(
    bare,
    bare.map(({ prompt }) => prompt),
  );
  const all = expected.cases;
  await ask(
    all,
    all.map(({ prompt_ids }) => prompt_ids),
  );
  const chats = all.filter(({ kind }) => kind === 'chat');
  for (const chat of chats.slice(0, 12)) {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        messages: [{ role: 'user', content: chat.prompt }],
        max_tokens: expected.max_new_tokens,
        ...(chat.adapter !== 'base' && { adapters: chat.adapter }),
      }),
    });
    const answer = (await response.json()) as { choices: { message: { content: string } }[] };
    assert.equal(answer.choices[0]!.message.content, chat.text, `${chat.adapter}: ${chat.prompt}`);
  }
});
