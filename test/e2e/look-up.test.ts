/** `--lookup-tokens` on the real server: on every surface an answer is what it is without, to its last detail. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import { InferenceService } from '../../gen/loramux/v1/inference_pb.js';
import { GOLDEN } from '../engine/golden-model.js';
import { lines, postJson } from '../rest/http.js';
import { spawnServer } from '../rest/served.js';
import { eventually } from '../rpc/start-server.js';

/** In both texts the same runs of tokens come again and again, with characters of several tokens among them. */
const PROMPT = 'abé abé abé ba é abé';

/** What is told of an answer that other arithmetic or another moment may change. */
const FLOATING = new Set(['log_prob', 'logprob', 'token_logprobs', 'top_logprobs']);
const PASSING = new Set([
  'timings',
  'id',
  'created',
  'queueMs',
  'prefillMs',
  'decodeMs',
  'cachedTokens',
  'cached_tokens',
  'requestId',
]);

/** An answer without what is passing, and its numbers that may differ in their last bits. */
function settled(answer: unknown): { rest: unknown; floats: number[] } {
  const floats: number[] = [];
  const walk = (value: unknown, name: string): unknown => {
    if (typeof value === 'number' && (FLOATING.has(name) || !Number.isInteger(value))) return floats.push(value);
    if (Array.isArray(value)) return value.map((one) => walk(one, name));
    if (typeof value !== 'object' || value === null) return value;
    // Ids of tokens are numbers, those of answers are texts.
    const kept = Object.entries(value).filter(
      ([key, of]) => !PASSING.has(key) || (key === 'id' && Number.isInteger(of)),
    );
    return Object.fromEntries(kept.map(([key, of]) => [key, walk(of, FLOATING.has(name) ? name : key)]));
  };
  return { rest: walk(answer, ''), floats };
}

function assertSame(got: unknown, wanted: unknown, what: string): void {
  const [one, other] = [settled(got), settled(wanted)];
  assert.deepEqual(one.rest, other.rest, what);
  for (const [i, value] of one.floats.entries()) assert.ok(Math.abs(value - other.floats[i]!) < 1e-3, what);
}

describe('look-up on a served model', async () => {
  const folders = ['--model', `${GOLDEN}models/llama`, '--adapters', `${GOLDEN}adapters/llama`];
  const flags = ['--log-level', 'error', '--threads', '1', '--dtype', 'fp32', ...folders];
  const plain = await spawnServer([...flags, '--lookup-tokens', '0']);
  after(plain.stop);
  const guessing = await spawnServer([...flags, '--lookup-tokens', '8']);
  after(guessing.stop);

  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`${guessing.url}/metrics`)).text();
    const line = text.split('\n').find((one) => one.startsWith(name))!;
    return Number(line.split(' ').at(-1));
  };
  const outcome = (name: string) => metric(`loramux_lookup_tokens_total{model="llama",outcome="${name}"}`);
  const accepted = () => outcome('accepted');
  const guessed = async () => (await accepted()) + (await outcome('rejected'));

  /** Runs the work; asserts that guesses came true meanwhile. */
  const whileGuessing = async (work: () => Promise<void>): Promise<void> => {
    const before = await accepted();
    await work();
    assert.ok((await accepted()) > before, 'no guess came true');
  };
  const invoke = async (url: string, body: object): Promise<string> => {
    const response = await postJson(`${url}/invocations`, body);
    const text = await response.text();
    assert.equal(response.status, 200, text);
    return text;
  };
  type Answer = { generated_text: string; details: { tokens: { id: number }[]; prefill: { id: number }[] } };
  const first = await invoke(plain.url, { inputs: PROMPT, parameters: { decoder_input_details: true } });
  const { prefill } = (JSON.parse(first) as Answer).details;
  const ids = [...new Set(prefill.slice(-8).map(({ id }) => id))];
  const base = {
    ...{ max_new_tokens: 60, details: true, ignore_eos_token: true, do_sample: true, temperature: 4 },
    logit_bias: Object.fromEntries(ids.map((id) => [id, 90])),
  };
  const sampled = (seed: number, more: object = {}) => ({ ...base, seed, ...more });
  const answer = async (parameters: object, adapters = 'all-r8'): Promise<Answer> => {
    const [got, wanted] = [guessing, plain].map(({ url }) => invoke(url, { inputs: PROMPT, adapters, parameters }));
    const [one, other] = [JSON.parse(await got!) as Answer, JSON.parse(await wanted!) as Answer];
    assertSame(one, other, JSON.stringify(parameters));
    return one;
  };
  const seeds = [1, 2, 3, 4, 5, 6];

  const rules = {
    'no rules': {},
    'alternatives at every token': { logprobs: 3, top_n_tokens: 3 },
    penalties: { repetition_penalty: 1.2, frequency_penalty: 0.3, presence_penalty: 0.3 },
    'narrow sampling': { top_k: 2, top_p: 0.9 },
    'the likeliest tokens': { do_sample: false, temperature: undefined, presence_penalty: 0.2 },
    'scored prompts': { prompt_logprobs: 1 },
    'few tokens': { max_new_tokens: 17 },
  };
  for (const [what, parameters] of Object.entries(rules)) {
    test(`answers with details are the same: ${what}`, () =>
      whileGuessing(async () => {
        for (const seed of seeds) await answer(sampled(seed, parameters), seed % 2 === 0 ? 'all-r8' : '');
      }));
  }

  test('a stop string ends an answer wherever it falls in what was guessed', () =>
    whileGuessing(async () => {
      for (const seed of seeds) {
        const { generated_text: text } = await answer(sampled(seed));
        for (let at = 12; at < 30; at += 3) {
          const stop = text.slice(at, at + 4);
          const { generated_text: cut } = await answer(sampled(seed, { stop_sequences: [stop] }));
          assert.equal(cut, text.slice(0, text.indexOf(stop)));
        }
      }
    }));

  test('an id ends an answer wherever it falls in what was guessed', () =>
    whileGuessing(async () => {
      for (const seed of seeds) {
        const biased = { ...base.logit_bias, [ids[0]!]: 80 };
        const { details } = await answer(sampled(seed, { stop_token_ids: [ids[0]], logit_bias: biased }));
        const at = details.tokens.findIndex(({ id }) => id === ids[0]);
        assert.equal(details.tokens.length, at < 0 ? 60 : at + 1);
      }
    }));

  test('streams have the same lines and events, token by token', () =>
    whileGuessing(async () => {
      for (const seed of seeds) {
        const body = { inputs: PROMPT, adapters: 'all-r8', stream: true, parameters: sampled(seed, { logprobs: 2 }) };
        const [got, wanted] = await Promise.all([guessing, plain].map(({ url }) => invoke(url, body)));
        assertSame(lines(got!), lines(wanted!), `seed ${seed}`);
        const chat = { ...{ messages: [{ role: 'user', content: PROMPT }], stream: true, max_tokens: 40, seed } };
        const asked = { ...chat, temperature: 2, logprobs: true, top_logprobs: 2, logit_bias: base.logit_bias };
        const events = await Promise.all([guessing, plain].map(({ url }) => invoke(url, asked)));
        const [one, other] = events.map(chatOf);
        assert.ok(one!.logprobs.length > 5);
        assertSame(one, other, `chat, seed ${seed}`);
      }
    }));

  const transports = {
    grpc: (baseUrl: string) => createGrpcTransport({ baseUrl }),
    'grpc-web': (baseUrl: string) => createGrpcWebTransport({ baseUrl, httpVersion: '1.1' }),
    connect: (baseUrl: string) => createConnectTransport({ baseUrl, httpVersion: '1.1' }),
  };
  for (const [name, transportTo] of Object.entries(transports)) {
    test(`RPC answers are the same over ${name}, whole and streamed`, () =>
      whileGuessing(async () => {
        const clients = [guessing, plain].map(({ url }) => createClient(InferenceService, transportTo(url)));
        for (const seed of seeds) {
          const parameters = {
            ...{ maxNewTokens: 50, temperature: 4, seed, logprobs: 2, ignoreEos: true },
            ...{ logitBias: base.logit_bias, frequencyPenalty: 0.2, stop: ['é a b'] },
          };
          const prompt = { case: 'text' as const, value: PROMPT };
          const adapters = { case: 'adapter' as const, value: 'all-r8' };
          const request = { inputs: [{ prompt, adapters }], parameters, returnTokens: true };
          const [got, wanted] = await Promise.all(clients.map((client) => client.predict(request)));
          assert.ok(got!.results[0]!.tokens.length > 0);
          assertSame(got, wanted, `seed ${seed}`);
          for (const client of clients) {
            let text = '';
            const tokens: unknown[] = [];
            for await (const { event } of client.streamPredict(request)) {
              if (event.case === 'delta') text += event.value.text;
              if (event.case === 'delta') tokens.push(...event.value.tokens);
              if (event.case === 'final') assertSame(event.value, wanted!.results[0], `stream, seed ${seed}`);
            }
            assert.equal(text, wanted!.results[0]!.text);
            assertSame(tokens, wanted!.results[0]!.tokens, `stream, seed ${seed}`);
          }
        }
      }));
  }

  test('a reader that leaves in the middle of guesses frees its row', () =>
    whileGuessing(async () => {
      for (const seed of seeds) {
        const leaving = new AbortController();
        const parameters = sampled(seed, { max_new_tokens: 200 });
        const response = await fetch(`${guessing.url}/invocations`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ inputs: PROMPT, adapters: 'all-r8', stream: true, parameters }),
          signal: leaving.signal,
        });
        const reader = response.body!.getReader();
        const before = await guessed();
        do await reader.read();
        while ((await guessed()) === before);
        leaving.abort();
        await eventually(async () => (await metric('loramux_running_rows')) === 0, 'the row is gone');
      }
      assert.equal(await metric('loramux_rows_total{model="llama",finish_reason="cancelled"}'), seeds.length);
      for (const seed of seeds) await answer(sampled(seed));
    }));
});

interface ChatChunk {
  readonly choices: readonly {
    readonly delta: { readonly content?: string };
    readonly finish_reason: string | null;
    readonly logprobs?: { readonly content: readonly unknown[] } | null;
  }[];
}

/** What a stream of chat events says; tokens of one moment may come in one event. */
function chatOf(text: string): { content: string; logprobs: unknown[]; reasons: unknown[] } {
  const data = text.split('\n').filter((line) => line.startsWith('data: {'));
  const choices = data.flatMap((line) => (JSON.parse(line.slice(6)) as ChatChunk).choices);
  return {
    content: choices.map(({ delta }) => delta.content ?? '').join(''),
    logprobs: choices.flatMap(({ logprobs }) => logprobs?.content ?? []),
    reasons: choices.map(({ finish_reason }) => finish_reason).filter((reason) => reason !== null),
  };
}
