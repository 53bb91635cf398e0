import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { PredictResult } from '../../server/service/types.js';
import { failsWith } from '../app-error.js';
import { comparable, setup } from './inference-run.js';
import { VOCAB_SIZE } from './memory-model.js';

describe('a row is alone', () => {
  const input = fc.record({
    prompt: fc.oneof(
      fc.record({ kind: fc.constant('text' as const), text: fc.string({ minLength: 1, maxLength: 12 }) }),
      fc.record({
        kind: fc.constant('tokens' as const),
        tokenIds: fc.array(fc.nat(VOCAB_SIZE - 1), { minLength: 1, maxLength: 8 }),
      }),
    ),
    adapters: fc.uniqueArray(
      fc.record({ name: fc.constantFrom('fr', 'json', 'sql'), weight: fc.constantFrom(1, 0.5, -1, 0) }),
      { maxLength: 2, selector: ({ name }) => name },
    ),
    parameters: fc.record({
      maxNewTokens: fc.integer({ min: 1, max: 24 }),
      temperature: fc.constantFrom(0, 0.7),
      seed: fc.nat(),
      stop: fc.array(fc.constantFrom('e', ' t', 'an', '\ufffd\ufffd'), { maxLength: 2 }),
      stopTokenIds: fc.array(fc.nat(VOCAB_SIZE - 1), { maxLength: 20 }),
      ignoreEos: fc.boolean(),
      returnFullText: fc.boolean(),
    }),
  });
  const request = fc.record({
    inputs: fc.array(input, { minLength: 1, maxLength: 5 }),
    // When the reader leaves: never, by abort or by leaving the iteration, after some events.
    leave: fc.constantFrom('never', 'abort', 'return'),
    after: fc.nat(6),
    stream: fc.boolean(),
  });

  it('in random mixes of requests, stops and cancels', async () => {
    const alone = setup();
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 5 }), async (requests) => {
        const mixed = setup();
        await Promise.all(
          requests.map(async ({ inputs, leave, after, stream }) => {
            const abort = new AbortController();
            const results: PredictResult[] = [];
            try {
              if (stream) {
                let seen = 0;
                for await (const event of await mixed.service.stream({ inputs }, mixed.call(abort.signal))) {
                  if (event.type === 'final') results.push(event.result);
                  if (leave === 'return' && seen === after) break;
                  if (leave === 'abort' && seen === after) abort.abort();
                  seen++;
                }
              } else {
                const answer = mixed.service.predict({ inputs }, mixed.call(abort.signal));
                if (leave === 'abort') setImmediate(() => abort.abort());
                results.push(...(await answer));
              }
              if (leave === 'never') assert.equal(results.length, inputs.length);
            } catch (error) {
              if (leave !== 'abort') throw error;
              failsWith('CANCELED')(error);
            }
            for (const result of results) {
              const [expected] = await alone.service.predict({ inputs: [inputs[result.index]!] }, alone.call());
              assert.deepEqual(comparable(result), comparable(expected!));
            }
          }),
        );
        await mixed.settled();
        assert.equal(mixed.leases.held, 0);
      }),
      { numRuns: 60 },
    );
  });
});
