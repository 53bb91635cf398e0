/** Answers that begin with the prompt, whole and as streams: their text, and the tokens of the prompt in it. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { LoramuxClient } from '../../sdk/node.js';
import { GOLDEN } from '../engine/golden-model.js';
import { spawnServer } from '../rest/served.js';

interface Lists {
  tokens: string[];
  token_logprobs: (number | null)[];
  top_logprobs: (object | null)[];
  text_offset: number[];
}
interface Choice {
  index: number;
  text: string;
  logprobs: Lists | null;
  prompt_logprobs?: (object | null)[];
}

describe('answers that begin with the prompt', () => {
  const folder = mkdtempSync(join(tmpdir(), 'loramux-echo-'));
  let url: string;
  let stop: () => Promise<void>;

  before(async () => {
    cpSync(`${GOLDEN}adapters/llama/qv-r4`, join(folder, 'ask'), { recursive: true });
    writeFileSync(
      join(folder, 'ask', 'chat_template.jinja'),
      '{% for m in messages %}Q: {{ m.content }} A:{% endfor %}',
    );
    const flags = ['--model', `${GOLDEN}models/llama`, '--adapters', folder, '--dtype', 'fp32', '--threads', '1'];
    ({ url, stop } = await spawnServer([...flags, '--log-level', 'error']));
  });
  after(async () => {
    await stop();
    rmSync(folder, { recursive: true });
  });

  const post = async (body: object): Promise<string> => {
    const response = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ max_tokens: 4, echo: true, seed: 1, ignore_eos: true, ...body }),
    });
    const text = await response.text();
    assert.equal(response.status, 200, text);
    return text;
  };
  const whole = async (body: object): Promise<Choice[]> =>
    (JSON.parse(await post(body)) as { choices: Choice[] }).choices;
  const chunks = async (body: object): Promise<Choice[]> => {
    const events = (await post({ ...body, stream: true })).split('\n\n').filter((line) => line.startsWith('data: {'));
    return events.flatMap((line) => (JSON.parse(line.slice('data: '.length)) as { choices: Choice[] }).choices);
  };

  for (const prompt of ['plain', 'one<|eot_id|>two', '<|begin_of_text|>again', '🙂 a<|eot_id|><|eot_id|>']) {
    test(`each token of ${prompt} begins where its offset says`, async () => {
      const [choice] = await whole({ prompt, logprobs: 1 });
      const { tokens, text_offset } = choice!.logprobs!;
      assert.ok(choice!.text.startsWith(prompt));
      // The first is what the tokenizer adds: it is named, and not part of the text.
      assert.equal(tokens[0], '<|begin_of_text|>');
      assert.deepEqual(text_offset.slice(0, 2), [0, 0]);
      for (const [at, token] of tokens.entries()) {
        if (at > 0) assert.equal(choice!.text.slice(text_offset[at], text_offset[at]! + token.length), token);
      }
    });
  }

  for (const n of [1, 2]) {
    test(`a stream of ${n} brings the text, the tokens of the prompt and the offsets that the whole answer has`, async () => {
      const body = { prompt: ['one<|eot_id|>two', 'three'], logprobs: 1, prompt_logprobs: 1, n, temperature: 1 };
      const parts = await chunks(body);
      for (const choice of await whole(body)) {
        const own = parts.filter(({ index }) => index === choice.index);
        assert.equal(own.map(({ text }) => text).join(''), choice.text);
        const lists = own.flatMap(({ logprobs }) => logprobs ?? []);
        assert.deepEqual(
          lists.flatMap(({ tokens }) => tokens),
          choice.logprobs!.tokens,
        );
        assert.deepEqual(
          lists.flatMap(({ text_offset }) => text_offset),
          choice.logprobs!.text_offset,
        );
        for (const [at, logprob] of lists.flatMap(({ token_logprobs }) => token_logprobs).entries()) {
          const wanted = choice.logprobs!.token_logprobs[at]!;
          if (at === 0) assert.equal(logprob, null);
          else assert.ok(Math.abs(logprob! - wanted) < 1e-4, `token ${at}: ${logprob}, whole ${wanted}`);
        }
        assert.equal(own.at(-1)!.prompt_logprobs!.length, choice.prompt_logprobs!.length);
      }
    });
  }

  test("a stream repeats a chat as the adapter's own template renders it", async () => {
    await using client = new LoramuxClient({ baseUrl: url });
    for (const promptLogprobs of [undefined, 0]) {
      const request = {
        inputs: [{ messages: [{ role: 'user' as const, content: 'Hello there' }] }],
        adapter: 'ask',
        parameters: { maxNewTokens: 4, ignoreEos: true, returnFullText: true, promptLogprobs },
      };
      const { results } = await client.predict(request);
      assert.ok(results[0]!.text.startsWith('Q: Hello there A:'), results[0]!.text);
      let streamed = '';
      for await (const text of client.stream(request).text()) streamed += text;
      assert.equal(streamed, results[0]!.text);
    }
  });
});
