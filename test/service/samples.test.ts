/** Several answers to an input, truncation, biases and scored prompts, in the service. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createInferenceService } from '../../server/service/inference-service.js';
import { createModelService } from '../../server/service/model-service.js';
import type { GenerationParameters, PredictEvent, PredictRequest } from '../../server/service/types.js';
import { CountedLeases, memoryModel } from './memory-model.js';

function setup(maxInputs = 64) {
  const model = memoryModel();
  const leases = new CountedLeases();
  const models = new Map([[model.info.name, model]]);
  const service = createInferenceService({
    models,
    modelService: createModelService(models),
    leases,
    limits: { maxInputs },
  });
  const call = { requestId: 'test', signal: new AbortController().signal };
  const ask = (parameters: Partial<GenerationParameters>, texts = ['a']): PredictRequest => ({
    inputs: texts.map((text) => ({ prompt: { kind: 'text' as const, text } })),
    parameters,
  });
  return {
    engine: model.engine,
    leases,
    predict: (parameters: Partial<GenerationParameters>, texts?: string[]) =>
      service.predict(ask(parameters, texts), call),
    stream: (parameters: Partial<GenerationParameters>, texts?: string[]) =>
      service.stream(ask(parameters, texts), call),
    idle: async () => {
      while (model.engine.rows > 0) await new Promise((resolve) => setImmediate(resolve));
    },
  };
}

describe('several samples', () => {
  it('are rows of their own seeds; each seed alone gives the same answer', async () => {
    const { predict, leases } = setup();
    const results = await predict({ n: 3, temperature: 1, seed: 2 ** 32 - 1, maxNewTokens: 5 }, ['a', 'b']);
    assert.deepEqual(
      results.map(({ index, sample, seed }) => [index, sample, seed]),
      [
        [0, 0, 2 ** 32 - 1],
        [0, 1, 0],
        [0, 2, 1],
        [1, 0, 2 ** 32 - 1],
        [1, 1, 0],
        [1, 2, 1],
      ],
    );
    assert.equal(new Set(results.map(({ text }) => text)).size, 6);
    for (const { index, text, seed } of results) {
      const [alone] = await predict({ temperature: 1, seed, maxNewTokens: 5 }, [['a', 'b'][index]!]);
      assert.equal(alone!.text, text);
    }
    assert.equal(leases.held, 0);
  });

  it('best_of returns the most probable ones per token, best first, without their log-probabilities', async () => {
    const { predict, engine } = setup();
    const parameters = { temperature: 1, seed: 5, maxNewTokens: 4, ignoreEos: true };
    const all = await predict({ ...parameters, n: 6, logprobs: 0 });
    const mean = ({ tokens }: (typeof all)[number]) =>
      tokens.reduce((sum, { logprob }) => sum + logprob!, 0) / tokens.length;
    const wanted = [...all].sort((a, b) => mean(b) - mean(a)).slice(0, 2);
    const best = await predict({ ...parameters, n: 2, bestOf: 6 });
    assert.deepEqual(
      best.map(({ sample, seed, text }) => [sample, seed, text]),
      wanted.map(({ seed, text }, sample) => [sample, seed, text]),
    );
    assert.equal(engine.submitted.at(-1)!.sampling.logprobs, 0, 'the engine was asked for them');
    for (const { tokens } of best) for (const token of tokens) assert.equal(token.logprob, undefined);
  });

  it('stream side by side, each with its own final event', async () => {
    const { predict, stream } = setup();
    const parameters = { n: 2, temperature: 1, seed: 9, maxNewTokens: 6 };
    const events: PredictEvent[] = [];
    for await (const event of await stream(parameters, ['a', 'b'])) events.push(event);
    for (const { index, sample, text } of await predict(parameters, ['a', 'b'])) {
      const own = events.filter((event) => event.index === index && event.sample === sample);
      assert.equal(own.map((event) => (event.type === 'delta' ? event.text : '')).join(''), text);
      const last = own.at(-1)!;
      assert.equal(last.type === 'final' && last.result.text, text);
    }
  });

  it('are bounded, and best_of has its rules', async () => {
    const { predict, stream, engine } = setup(8);
    const refused = (message: RegExp) => ({ reason: 'INVALID_REQUEST', message });
    await assert.rejects(predict({ n: 5 }, ['a', 'b']), refused(/ask for 10 answers in all .*at most 8/));
    await assert.rejects(predict({ bestOf: 9 }), refused(/at most 8/));
    await assert.rejects(predict({ n: 3, bestOf: 2 }), refused(/best_of: must be at least n \(3\), but is 2/));
    await assert.rejects(predict({ n: 0 }), refused(/parameters\.n: must be an integer between 1 and 128/));
    await assert.rejects(stream({ n: 2, bestOf: 3 }), refused(/best_of: must equal n \(2\) in a stream/));
    assert.equal(engine.submitted.length, 0);
    for await (const _ of await stream({ n: 2, bestOf: 2 }));
  });
});

describe('truncate', () => {
  it('keeps the last tokens of the prompt', async () => {
    const { predict, engine } = setup();
    const text = 'the quick brown fox jumps over the lazy dog';
    const [whole] = await predict({ maxNewTokens: 1 }, [text]);
    const ids = engine.submitted.at(-1)!.promptIds;
    const [cut] = await predict({ maxNewTokens: 1, truncate: 4, returnFullText: true }, [text]);
    assert.deepEqual(engine.submitted.at(-1)!.promptIds, ids.slice(-4));
    assert.equal(cut!.usage.promptTokens, 4);
    assert.ok(cut!.text.length < text.length, 'the full text is what was used');
    await predict({ maxNewTokens: 1, truncate: 1000 }, [text]);
    assert.equal(engine.submitted.at(-1)!.promptIds.length, whole!.usage.promptTokens);
  });

  it('makes room in the context', async () => {
    const { predict } = setup();
    const long = 'word '.repeat(400);
    const tooLong = {
      reason: 'CONTEXT_LENGTH_EXCEEDED',
      message: /prompt tokens and 30 new tokens .* holds 256; .*truncate/,
    };
    await assert.rejects(predict({}, [long]), tooLong);
    await assert.doesNotReject(predict({ truncate: 226 }, [long]));
    await assert.rejects(predict({ truncate: 227 }, [long]), { reason: 'CONTEXT_LENGTH_EXCEEDED' });
  });
});

describe('logit bias', () => {
  it('reaches the engine, and is checked', async () => {
    const { predict, engine } = setup();
    await predict({ logitBias: new Map([[3, -100]]), maxNewTokens: 1 });
    assert.deepEqual(engine.submitted.at(-1)!.sampling.logitBias, new Map([[3, -100]]));
    for (const [id, bias, message] of [
      [384, 1, /logit_bias\[384\]: must be for an id between 0 and 383/],
      [1, 101, /logit_bias\[1\]: must be between -100 and 100, but is 101/],
      [1, Number.NaN, /but is NaN/],
    ] as const) {
      await assert.rejects(predict({ logitBias: new Map([[id, bias]]) }), { reason: 'INVALID_REQUEST', message });
    }
  });
});

describe('a scored prompt', () => {
  it('lists its tokens with their texts; the first has no log-probability', async () => {
    const { predict } = setup();
    const [result] = await predict({ promptLogprobs: 1, maxNewTokens: 1 }, ['hello world']);
    const tokens = result!.promptTokens!;
    assert.equal(tokens.length, result!.usage.promptTokens);
    const shown = tokens.filter(({ special }) => !special).map(({ text }) => text);
    assert.equal(shown.join(''), 'hello world');
    assert.equal(tokens[0]!.logprob, undefined);
    for (const { id, logprob, top } of tokens.slice(1)) {
      assert.equal(logprob, -id / 100);
      assert.equal(top!.length, 1);
    }
    const [plain] = await predict({ maxNewTokens: 1 }, ['hello world']);
    assert.equal(plain!.promptTokens, undefined);
  });
});
