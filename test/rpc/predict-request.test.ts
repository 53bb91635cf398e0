import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { create, fromBinary, fromJsonString, toBinary, toJsonString } from '@bufbuild/protobuf';
import fc from 'fast-check';
import { PredictRequestSchema } from '../../gen/loramux/v1/inference_pb.js';
import { toRequest } from '../../sdk/to-request.js';
import { AppError } from '../../server/errors.js';
import { fromRequest, wantsTokens } from '../../server/rpc/predict-request.js';
import { assertValid } from '../../server/rpc/validation.js';
import { mergeParameters } from '../../server/service/parameters.js';

const finite = fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0); // JSON has no -0
const positive = fc.double({ min: 1e-300, noNaN: true, noDefaultInfinity: true });
const uint32 = fc.nat(0xffffffff);
const parameters = fc.record(
  {
    maxNewTokens: fc.integer({ min: 1, max: 0xffffffff }),
    temperature: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
    topK: uint32,
    topP: fc.double({ min: 1e-300, max: 1, noNaN: true }),
    minP: fc.double({ min: 0, max: 1, noNaN: true }),
    repetitionPenalty: positive,
    presencePenalty: finite,
    frequencyPenalty: finite,
    seed: uint32,
    stop: fc.array(fc.string({ minLength: 1, unit: 'grapheme' }), { minLength: 1, maxLength: 3 }),
    stopTokenIds: fc.array(uint32, { minLength: 1, maxLength: 3 }),
    ignoreEos: fc.boolean(),
    logprobs: fc.nat(256),
    returnFullText: fc.boolean(),
  },
  { requiredKeys: [], noNullPrototype: true },
);

describe('requests, from the SDK to the service layer', () => {
  it('keep every parameter that is given, and give no other', () => {
    fc.assert(
      fc.property(parameters, parameters, fc.boolean(), (all, own, json) => {
        const sent = toRequest({ inputs: [{ text: 'a', parameters: own }], parameters: all });
        const received = json
          ? fromJsonString(PredictRequestSchema, toJsonString(PredictRequestSchema, sent))
          : fromBinary(PredictRequestSchema, toBinary(PredictRequestSchema, sent));
        assertValid(received);
        const request = fromRequest(received);
        assert.deepEqual(request.parameters, all);
        assert.deepEqual(request.inputs[0]!.parameters, own);
        assert.equal(wantsTokens(received)(0), all.logprobs !== undefined || own.logprobs !== undefined);
      }),
    );
  });

  it("let an input's empty lists take the place of the request's", () => {
    const common = { stop: ['x'], stopTokenIds: [7], logitBias: { 5: 1 } };
    const { parameters, inputs } = fromRequest(
      toRequest({
        inputs: [
          'bare',
          [1, 2],
          { text: 'a', parameters: { stop: [], temperature: 1 } },
          { text: 'a', parameters: { stop: ['y'], stopTokenIds: [] } },
          { text: 'a', parameters: { logitBias: {} } },
        ],
        parameters: { ...common, maxNewTokens: 3 },
      }),
    );
    const merged = inputs.map((one) => mergeParameters(parameters, one.parameters));
    const biased = new Map([[5, 1]]);
    assert.deepEqual(
      merged.map(({ stop, stopTokenIds, logitBias, maxNewTokens }) => [stop, stopTokenIds, logitBias, maxNewTokens]),
      [
        [['x'], [7], biased, 3],
        [['x'], [7], biased, 3],
        [[], [7], biased, 3],
        [['y'], [], biased, 3],
        [['x'], [7], undefined, 3],
      ],
    );
    // Where nothing is emptied the request says it once.
    const plain = toRequest({ inputs: ['a', { text: 'b', parameters: { stop: ['y'] } }], parameters: common });
    assert.deepEqual(plain.parameters?.stop, ['x']);
    assert.equal(plain.inputs[0]!.parameters, undefined);
  });

  it('tell the base model from no choice', () => {
    const { inputs, adapters } = fromRequest(
      toRequest({
        inputs: [
          'no choice',
          { text: 'a', adapter: null },
          { text: 'a', adapter: '' },
          { text: 'a', adapter: [] },
          { text: 'a', adapter: 'x' },
          { text: 'a', adapter: ['x', { name: 'y', weight: -2 }, { name: 'z', weight: 0 }] },
        ],
        adapter: { name: 'd', weight: 0.5 },
      }),
    );
    assert.deepEqual(adapters, [{ name: 'd', weight: 0.5 }]);
    assert.deepEqual(
      inputs.map((input) => input.adapters),
      [
        undefined,
        [],
        [],
        [],
        [{ name: 'x', weight: 1 }],
        [
          { name: 'x', weight: 1 },
          { name: 'y', weight: -2 },
          { name: 'z', weight: 0 },
        ],
      ],
    );
    assert.equal(fromRequest(toRequest('a')).adapters, undefined);
    assert.equal(fromRequest(toRequest('a')).parameters, undefined);
  });

  it('carry texts, token ids and conversations', () => {
    const messages = [{ role: 'user', content: 'hi' }];
    const { inputs, model } = fromRequest(
      toRequest({ model: 'm', inputs: ['a', [1, 2], { messages }, { messages, template: 'rag' }] }),
    );
    assert.equal(model, 'm');
    assert.deepEqual(
      inputs.map(({ prompt }) => prompt),
      [
        { kind: 'text', text: 'a' },
        { kind: 'tokens', tokenIds: [1, 2] },
        { kind: 'chat', messages },
        { kind: 'chat', messages, template: 'rag' },
      ],
    );
  });

  it('are refused with the path of the field', () => {
    const field = (init: Parameters<typeof create<typeof PredictRequestSchema>>[1]): string[] => {
      try {
        assertValid(create(PredictRequestSchema, init));
        return [];
      } catch (error) {
        assert.ok(error instanceof AppError);
        assert.equal(error.reason, 'INVALID_REQUEST');
        return error.violations.map((violation) => violation.field);
      }
    };
    const prompt = { case: 'text' as const, value: '' };
    assert.deepEqual(field({ inputs: [{ prompt }] }), [], 'an empty text is a prompt');
    assert.deepEqual(field({}), ['inputs']);
    assert.deepEqual(field({ inputs: [{ prompt: { case: 'tokenIds', value: {} } }] }), ['inputs[0].token_ids.ids']);
    assert.ok(
      field({ inputs: [{ prompt }], parameters: { temperature: Number.NaN } }).includes('parameters.temperature'),
    );
    for (const weight of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const adapters = { case: 'selection' as const, value: { adapters: [{ name: 'x', weight }] } };
      assert.deepEqual(field({ inputs: [{ prompt, adapters }] }), ['inputs[0].selection.adapters[0].weight']);
    }
  });
});
