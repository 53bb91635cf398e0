/** Several answers, biases, truncation and scored prompts on every surface of the real server, with the demo model. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { LoramuxClient } from '../../sdk/node.js';
import { spawnServer } from '../rest/served.js';

interface LmiToken {
  readonly id: number;
  readonly text: string;
  readonly log_prob: number | null;
}

interface LmiAnswer {
  readonly generated_text: string;
  readonly details: {
    readonly tokens: LmiToken[];
    readonly prefill?: LmiToken[];
    readonly prefill_top_tokens?: LmiToken[][];
    readonly seed: number;
    readonly input_length: number;
    readonly best_of_sequences?: { generated_text: string; seed: number; tokens: LmiToken[]; finish_reason: string }[];
  };
}

const PROMPT = 'The weather today is';

describe('generation parameters over the wire', async () => {
  const { url, stop } = await spawnServer(['--log-level', 'error', '--threads', '1']);
  after(stop);
  const client = new LoramuxClient({ baseUrl: url });
  const post = async (path: string, body: object, status = 200): Promise<never> => {
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    assert.equal(response.status, status, text);
    return JSON.parse(text) as never;
  };
  const lmi = (parameters: object, more: object = {}): Promise<LmiAnswer> =>
    post('/invocations', { inputs: PROMPT, parameters: { max_new_tokens: 6, ...parameters }, ...more });

  test('n answers are the same over RPC, LMI and OpenAI bodies, whole and streamed', async () => {
    const adapter = 'pirate';
    const { results } = await client.predict({
      inputs: PROMPT,
      adapter,
      parameters: { n: 3, temperature: 1, seed: 11, maxNewTokens: 6 },
    });
    assert.deepEqual(
      results.map(({ inputIndex, sampleIndex, seed }) => [inputIndex, sampleIndex, seed]),
      [
        [0, 0, 11],
        [0, 1, 12],
        [0, 2, 13],
      ],
    );
    const texts = results.map(({ text }) => text);
    assert.ok(new Set(texts).size > 1, 'samples differ');

    const stream = client.stream({
      inputs: PROMPT,
      adapter,
      parameters: { n: 3, temperature: 1, seed: 11, maxNewTokens: 6 },
    });
    assert.deepEqual(
      (await stream.finalResults()).map(({ text }) => text),
      texts,
    );
    assert.deepEqual([stream.partialText(0, 1), stream.partialText(0, 2)], texts.slice(1));
    assert.throws(() => stream.text(), /one answer; this one has 3/);

    const sampled = { n: 3, temperature: 1, seed: 11 };
    const whole = await lmi(sampled, { adapters: adapter });
    const further = whole.details.best_of_sequences!;
    assert.deepEqual([whole.generated_text, ...further.map((one) => one.generated_text)], texts);
    assert.deepEqual(
      further.map(({ seed }) => seed),
      [12, 13],
    );

    const lines = await fetch(`${url}/invocations`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        inputs: PROMPT,
        adapters: adapter,
        stream: true,
        parameters: { max_new_tokens: 6, ...sampled },
      }),
    });
    const finals = (await lines.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { sample: number; generated_text?: string })
      .filter(({ generated_text }) => generated_text !== undefined);
    assert.deepEqual(
      finals.sort((a, b) => a.sample - b.sample).map(({ generated_text }) => generated_text),
      texts,
    );

    const completion: { choices: { index: number; text: string }[]; usage: { completion_tokens: number } } = await post(
      '/invocations',
      { prompt: [PROMPT, PROMPT], max_tokens: 6, adapters: adapter, ...sampled },
    );
    assert.deepEqual(
      completion.choices.map(({ index, text }) => [index, text]),
      [...texts, ...texts].map((text, index) => [index, text]),
    );
  });

  test('best_of returns what its seed alone gives', async () => {
    const best = await lmi({ best_of: 4, temperature: 1.2, seed: 3, details: true });
    const all = await lmi({ n: 4, temperature: 1.2, seed: 3 });
    const mean = (tokens: LmiToken[]) => tokens.reduce((sum, { log_prob }) => sum + log_prob!, 0) / tokens.length;
    const drawn = [all.details, ...all.details.best_of_sequences!];
    const [wanted] = [...drawn].sort((a, b) => mean(b.tokens) - mean(a.tokens));
    assert.equal(best.details.seed, wanted!.seed);
    const alone = await lmi({ temperature: 1.2, seed: best.details.seed });
    assert.equal(alone.generated_text, best.generated_text);
  });

  test('a biased token is never drawn, or always', async () => {
    const plain = await lmi({ details: true });
    const first = plain.details.tokens[0]!.id;
    const without = await lmi({ details: true, logit_bias: { [first]: -100 } });
    assert.ok(without.details.tokens.every(({ id }) => id !== first));
    const { results } = await client.predict({
      inputs: PROMPT,
      parameters: { logitBias: { [first]: 100 }, maxNewTokens: 3, ignoreEos: true, logprobs: 0 },
    });
    assert.deepEqual(
      results[0]!.tokens.map(({ id }) => id),
      [first, first, first],
    );
    const refused: { message: string } = await post(
      '/invocations',
      { inputs: PROMPT, parameters: { logit_bias: { [first]: 101 } } },
      400,
    );
    assert.match(refused.message, /logit_bias\[\d+\]: must be between -100 and 100, but is 101/);
    await assert.rejects(client.predict({ inputs: PROMPT, parameters: { logitBias: { [first]: -101 } } }), {
      reason: 'INVALID_REQUEST',
    });
  });

  test('a prompt’s log-probabilities are those of generating it, and agree over all surfaces', async () => {
    // What the model generated greedily is then scored as a prompt: the same distributions by another way.
    const { details } = await lmi({ details: true, ignore_eos_token: true }, { adapters: 'shout' });
    const generated = details.tokens;
    const { prefill: own = [] } = (await lmi({ decoder_input_details: true, max_new_tokens: 1 })).details;
    const ids = [...own.map(({ id }) => id), ...generated.map(({ id }) => id)];
    const scored: LmiAnswer = await post('/invocations', {
      inputs: ids,
      adapters: 'shout',
      parameters: { max_new_tokens: 1, prompt_logprobs: 2 },
    });
    const { prefill = [], prefill_top_tokens = [] } = scored.details;
    assert.deepEqual(
      prefill.map(({ id }) => id),
      ids,
    );
    assert.equal(prefill[0]!.log_prob, null);
    assert.deepEqual(
      prefill_top_tokens.map(({ length }) => length),
      ids.map((_, at) => (at === 0 ? 0 : 2)),
    );
    for (const [at, { log_prob }] of generated.entries()) {
      assert.ok(Math.abs(prefill[own.length + at]!.log_prob! - log_prob!) < 1e-3, `token ${at}`);
    }

    const { results } = await client.predict({
      inputs: [ids],
      adapter: 'shout',
      parameters: { promptLogprobs: 2, maxNewTokens: 1 },
    });
    const { promptTokens } = results[0]!;
    assert.equal(promptTokens[0]!.logprob, undefined);
    for (const [at, token] of promptTokens.entries()) {
      assert.equal(token.id, ids[at]);
      if (at > 0) assert.ok(Math.abs(token.logprob! - prefill[at]!.log_prob!) < 1e-6);
    }

    const echoed: {
      choices: {
        text: string;
        prompt_logprobs: (Record<string, { logprob: number }> | null)[];
        logprobs: { tokens: string[]; token_logprobs: (number | null)[]; text_offset: number[] };
      }[];
    } = await post('/invocations', { prompt: PROMPT, max_tokens: 2, echo: true, logprobs: 1, prompt_logprobs: 1 });
    const [choice] = echoed.choices;
    const { tokens, token_logprobs, text_offset } = choice!.logprobs;
    assert.ok(choice!.text.startsWith(PROMPT));
    assert.equal(tokens.length, own.length + 2);
    assert.equal(token_logprobs[0], null);
    for (const [at, { log_prob }] of own.entries()) {
      if (at > 0) assert.ok(Math.abs(token_logprobs[at]! - log_prob!) < 1e-6);
    }
    for (const [at, text] of tokens.entries()) {
      if (at > 0) assert.equal(choice!.text.slice(text_offset[at], text_offset[at]! + text.length), text);
    }
    assert.equal(choice!.prompt_logprobs[0], null);
    assert.ok(String(own[1]!.id) in choice!.prompt_logprobs[1]!);
  });

  test('truncate answers from the last tokens', async () => {
    const whole = await lmi({ decoder_input_details: true });
    const cut = await lmi({ decoder_input_details: true, truncate: 2 });
    assert.deepEqual(
      cut.details.prefill!.map(({ id }) => id),
      whole.details.prefill!.map(({ id }) => id).slice(-2),
    );
    assert.equal(cut.details.input_length, 2);
  });

  test('chat bodies stream log-probabilities and number their choices', async () => {
    const body = { messages: [{ role: 'user', content: 'Hi' }], max_tokens: 4, n: 2, logprobs: true, top_logprobs: 2 };
    type Logprobs = { content: { token: string; logprob: number; top_logprobs: unknown[] }[] };
    const whole: { choices: { index: number; message: { content: string }; logprobs: Logprobs }[] } = await post(
      '/v1/chat/completions',
      body,
    );
    assert.deepEqual(
      whole.choices.map(({ index }) => index),
      [0, 1],
    );
    const streamed = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ...body, stream: true }),
    });
    const chunks = (await streamed.text())
      .split('\n\n')
      .filter((event) => event.startsWith('data: {'))
      .map(
        (event) =>
          JSON.parse(event.slice(6)) as { model?: string; choices: [{ index: number; logprobs: Logprobs | null }] },
      );
    const named = new Set(chunks.map(({ model }) => model));
    assert.ok(named.size === 1 && !named.has(undefined), 'every chunk names the model');
    for (const { index, logprobs } of whole.choices) {
      const parts = chunks.filter(({ choices: [choice] }) => choice.index === index);
      const content = parts.flatMap(({ choices: [choice] }) => choice.logprobs?.content ?? []);
      assert.equal(content.length, logprobs.content.length);
      for (const [at, token] of content.entries()) {
        assert.equal(token.token, logprobs.content[at]!.token);
        assert.ok(Math.abs(token.logprob - logprobs.content[at]!.logprob) < 1e-4);
        assert.equal(token.top_logprobs.length, 2);
      }
    }
  });
});
