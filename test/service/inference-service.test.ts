import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AppError, type ErrorReason } from '../../server/errors.js';
import { createModelService } from '../../server/service/model-service.js';
import type { GenerationParameters, PredictInput, PredictRequest } from '../../server/service/types.js';
import { failsWith } from '../app-error.js';
import { collect, comparable, joined, setup, text } from './inference-run.js';
import { EOS, memoryModel, VOCAB_SIZE } from './memory-model.js';

describe('results', () => {
  it('come in the order of the inputs, each with its own adapters in the receipt', async () => {
    const { service, call, settled } = setup();
    const results = await service.predict(
      {
        inputs: [
          text('a'),
          { ...text('a'), adapters: [] },
          {
            ...text('a'),
            adapters: [
              { name: 'x', weight: 0 },
              { name: 'y', weight: -2 },
            ],
          },
        ],
        adapters: [{ name: 'default', weight: 1 }],
      },
      call(),
    );
    assert.deepEqual(
      results.map(({ index, receipt }) => [index, receipt.model, receipt.baseFingerprint, receipt.adapters]),
      [
        [0, 'tiny', 'base0', [{ name: 'default', digest: 'digest-of-default', weight: 1 }]],
        [1, 'tiny', 'base0', []],
        [
          2,
          'tiny',
          'base0',
          [
            { name: 'x', digest: 'digest-of-x', weight: 0 },
            { name: 'y', digest: 'digest-of-y', weight: -2 },
          ],
        ],
      ],
    );
    assert.equal(new Set(results.map((result) => result.text)).size, 3, 'the adapters reached the engine');
    await settled();
  });

  it('reach the engine with the priority and the deadline of the call', async () => {
    const { service, call, engine, settled } = setup();
    await service.predict({ inputs: [text('a')] }, { ...call(), priority: 4, deadline: 1e15 });
    assert.equal(engine.submitted[0]!.priority, 4);
    assert.equal(engine.submitted[0]!.deadline, 1e15);
    await settled();
  });

  it('take parameters from the input, then the request, then the defaults; undefined overrides nothing', async () => {
    const { service, call, engine } = setup();
    await service.predict(
      {
        inputs: [text('a'), { ...text('a'), parameters: { maxNewTokens: 2, topK: undefined } }],
        parameters: { maxNewTokens: 3, topK: 7, minP: undefined },
      },
      call(),
    );
    assert.deepEqual(
      engine.submitted.map(({ maxNewTokens, sampling }) => [maxNewTokens, sampling.topK, sampling.minP, sampling.topP]),
      [
        [3, 7, 0, 1],
        [2, 7, 0, 1],
      ],
    );
    await service.predict({ inputs: [text('a')] }, call());
    assert.equal(engine.submitted.at(-1)!.maxNewTokens, 30);
    assert.equal(engine.submitted.at(-1)!.sampling.temperature, 0);
  });

  it('tell the random seed, which gives the same answer again', async () => {
    const { service, call } = setup();
    const ask = (seed?: number) => ({ inputs: [text('a')], parameters: { temperature: 1, seed } });
    const [first] = await service.predict(ask(), call());
    const [again] = await service.predict(ask(first!.seed), call());
    assert.deepEqual(comparable(again!), comparable(first!));
  });

  it('list log-probabilities and alternatives only when asked for', async () => {
    const { service, call } = setup();
    const of = async (logprobs?: number) =>
      (await service.predict({ inputs: [text('a')], parameters: { logprobs, maxNewTokens: 4 } }, call()))[0]!.tokens;
    for (const token of await of()) assert.deepEqual([token.logprob, token.top], [undefined, undefined]);
    for (const token of await of(0)) assert.deepEqual([token.logprob, token.top], [-token.id / 100, undefined]);
    for (const token of await of(1)) assert.equal(token.top![0]!.id, token.id);
  });

  it('render chats with the template and without further special tokens', async () => {
    const { service, call, engine, model } = setup();
    const messages = [{ role: 'user', content: 'hi' }];
    await service.predict({ inputs: [{ prompt: { kind: 'chat', messages } }] }, call());
    const rendered = model.chatTemplate.render(messages, true);
    assert.deepEqual(engine.submitted[0]!.promptIds, model.tokenizer.encode(rendered, false));
    const unknown = { inputs: [{ prompt: { kind: 'chat' as const, messages, template: 'tool_use' } }] };
    await assert.rejects(service.predict(unknown, call()), {
      reason: 'CHAT_TEMPLATE_FAILED',
      message: /no chat template "tool_use"/,
    });
  });

  it('begin with the prompt when the full text is asked for, in streams too', async () => {
    const { service, call } = setup();
    const request = { inputs: [text('the prompt')], parameters: { returnFullText: true, maxNewTokens: 5 } };
    const [result] = await service.predict(request, call());
    assert.equal(result!.text, `the prompt${result!.tokens.map((token) => token.text).join('')}`);
    assert.equal(joined(await collect(await service.stream(request, call())), 0).text, result!.text);
  });
});

describe('the end of a row', () => {
  it('is length, eos or stop; the ending token is listed without text', async () => {
    const { service, call, engine, settled } = setup();
    const [whole] = await service.predict(
      { inputs: [text('b')], parameters: { maxNewTokens: 20, ignoreEos: true } },
      call(),
    );
    assert.equal(whole!.finishReason, 'length');
    assert.equal(whole!.usage.completionTokens, 20);
    const id = whole!.tokens[4]!.id;
    const [stopped] = await service.predict({ inputs: [text('b')], parameters: { stopTokenIds: [id] } }, call());
    const length = whole!.tokens.findIndex((token) => token.id === id) + 1;
    assert.equal(stopped!.finishReason, 'stop');
    assert.equal(stopped!.stopString, undefined);
    assert.equal(stopped!.usage.completionTokens, length);
    assert.deepEqual([stopped!.tokens.at(-1)!.id, stopped!.tokens.at(-1)!.text], [id, '']);
    engine.next = () => EOS;
    const [ended] = await service.predict({ inputs: [text('b')] }, call());
    assert.deepEqual([ended!.finishReason, ended!.text, ended!.tokens.length], ['eos', '', 1]);
    assert.equal(ended!.tokens[0]!.special, true);
    const [ignored] = await service.predict({ inputs: [text('b')], parameters: { ignoreEos: true } }, call());
    assert.deepEqual([ignored!.finishReason, ignored!.tokens.length], ['length', 30]);
    await settled();
  });

  it('cancels the row in the engine at a stop string and counts tokens up to it', async () => {
    const { service, call, engine, model, settled } = setup();
    const ids = model.tokenizer.encode('one two three four five six', false);
    engine.next = ({ generated }) => ids[generated.length % ids.length]!;
    const [result] = await service.predict(
      { inputs: [text('x')], parameters: { maxNewTokens: 200, stop: ['three', 'zzz'] } },
      call(),
    );
    assert.deepEqual([result!.text, result!.finishReason, result!.stopString], ['one two ', 'stop', 'three']);
    const needed = ids.findIndex((_, at) => model.tokenizer.decode(ids.slice(0, at + 1), true).includes('three')) + 1;
    assert.equal(result!.usage.completionTokens, needed);
    assert.equal(result!.tokens.map((token) => token.text).join(''), result!.text);
    assert.ok(engine.steps < 50, 'the row did not run on');
    await settled();
  });
});

describe('refusals', () => {
  const bad = async (request: PredictRequest, reason: ErrorReason, field?: string, message?: RegExp) => {
    const { service, call, engine, leases } = setup();
    for (const ask of [() => service.predict(request, call()), () => service.stream(request, call())]) {
      await assert.rejects(ask(), (error) => {
        failsWith(reason, message)(error);
        if (field !== undefined) {
          const fields = (error as AppError).violations.map((violation) => violation.field);
          assert.ok(fields.includes(field), `${field} is not in ${fields}`);
        }
        return true;
      });
    }
    assert.equal(engine.submitted.length, 0, 'nothing was enqueued');
    assert.deepEqual(leases.releases, [], 'nothing stays leased');
  };

  it('name every parameter that is out of its range', async () => {
    const cases: [Partial<GenerationParameters>, string][] = [
      [{ maxNewTokens: 0 }, 'max_new_tokens'],
      [{ maxNewTokens: 1.5 }, 'max_new_tokens'],
      [{ temperature: -1 }, 'temperature'],
      [{ temperature: Number.NaN }, 'temperature'],
      [{ topK: -1 }, 'top_k'],
      [{ topP: 0 }, 'top_p'],
      [{ topP: 1.01 }, 'top_p'],
      [{ minP: 2 }, 'min_p'],
      [{ repetitionPenalty: 0 }, 'repetition_penalty'],
      [{ presencePenalty: Number.POSITIVE_INFINITY }, 'presence_penalty'],
      [{ frequencyPenalty: Number.NaN }, 'frequency_penalty'],
      [{ seed: 2 ** 32 }, 'seed'],
      [{ logprobs: -1 }, 'logprobs'],
      [{ stop: ['a', ''] }, 'stop[1]'],
      [{ stop: ['\ud83d'] }, 'stop[0]'],
      [{ stopTokenIds: [VOCAB_SIZE] }, 'stop_token_ids[0]'],
    ];
    for (const [parameters, field] of cases) {
      await bad({ inputs: [text('a')], parameters }, 'INVALID_REQUEST', `parameters.${field}`);
      await bad(
        { inputs: [text('a'), { ...text('a'), parameters }] },
        'INVALID_REQUEST',
        `inputs[1].parameters.${field}`,
      );
    }
  });

  it('name faults of inputs and selections', async () => {
    await bad({ inputs: [] }, 'INVALID_REQUEST', 'inputs');
    await bad({ inputs: Array.from({ length: 65 }, () => text('a')) }, 'INVALID_REQUEST', 'inputs');
    const tokens = (...tokenIds: number[]): PredictInput => ({ prompt: { kind: 'tokens', tokenIds } });
    await bad({ inputs: [tokens(1, VOCAB_SIZE)] }, 'INVALID_REQUEST', 'inputs[0].token_ids[1]');
    await bad({ inputs: [tokens(-1)] }, 'INVALID_REQUEST', 'inputs[0].token_ids[0]');
    await bad({ inputs: [tokens()] }, 'INVALID_REQUEST', 'inputs[0]', /no tokens/);
    await bad({ inputs: [{ prompt: { kind: 'chat', messages: [] } }] }, 'INVALID_REQUEST', 'inputs[0].chat.messages');
    const twice = [
      { name: 'x', weight: 1 },
      { name: 'x', weight: 2 },
    ];
    await bad(
      { inputs: [{ ...text('a'), adapters: twice }] },
      'INVALID_REQUEST',
      'inputs[0].adapters[1].name',
      /twice/,
    );
    const infinite = [{ name: 'x', weight: Number.NEGATIVE_INFINITY }];
    await bad({ inputs: [text('a')], adapters: infinite }, 'INVALID_REQUEST', 'adapters[0].weight');
    await bad({ inputs: [text('a')], adapters: [{ name: 'missing', weight: 1 }] }, 'ADAPTER_NOT_REGISTERED');
    await bad({ inputs: [text('a')], model: 'tinny' }, 'MODEL_NOT_FOUND', undefined, /near names: tiny/);
  });

  it('tell the numbers when prompt and new tokens exceed the context', async () => {
    const prompt = { kind: 'tokens', tokenIds: new Array(200).fill(1) } as const;
    const exceeded =
      /200 prompt tokens and 57 new tokens are 257, but the context holds 256; at most 56 new tokens fit/;
    await bad(
      { inputs: [{ prompt }], parameters: { maxNewTokens: 57 } },
      'CONTEXT_LENGTH_EXCEEDED',
      'inputs[0]',
      exceeded,
    );
    const { service, call } = setup();
    const [result] = await service.predict(
      { inputs: [{ prompt }], parameters: { maxNewTokens: 56, ignoreEos: true } },
      call(),
    );
    assert.equal(result!.usage.completionTokens, 56);
  });

  it('free the leases when the engine takes no rows', async () => {
    const { service, call, engine, settled } = setup();
    engine.submit = () => {
      throw new AppError('QUEUE_FULL', 'full');
    };
    await assert.rejects(service.predict({ inputs: [text('a'), text('b')] }, call()), failsWith('QUEUE_FULL'));
    await settled();
  });

  it('ask for a name when several models are served', () => {
    const models = createModelService(new Map(['one', 'two'].map((name) => [name, memoryModel(name)])));
    assert.deepEqual(
      models.list().map(({ name }) => name),
      ['one', 'two'],
    );
    assert.equal(models.resolve('two').name, 'two');
    assert.throws(() => models.resolve(undefined), failsWith('INVALID_REQUEST', /one, two/));
    assert.throws(() => models.resolve('twoo'), failsWith('MODEL_NOT_FOUND', /near names: two/));
  });
});

describe('a model that is unregistered, and its engine closed, before the rows of a request are there', () => {
  const gone = () => {
    const one = setup();
    one.leases.meanwhile = () => {
      one.models.clear();
      void one.engine.close();
    };
    return one;
  };

  it('is not found', async () => {
    const { service, call, settled } = gone();
    await assert.rejects(service.predict({ inputs: [text('a')] }, call()), failsWith('MODEL_NOT_FOUND'));
    await settled();
  });

  it('is not found by streams', async () => {
    const { service, call, settled } = gone();
    await assert.rejects(service.stream({ inputs: [text('a')] }, call()), failsWith('MODEL_NOT_FOUND'));
    await settled();
  });
});
