/** Key/value memory: what a row gets does not depend on how little there is, and the budget holds at every step. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { EngineLoop, type LoopLimits } from '../../server/engine/engine-loop.js';
import { openGolden } from './golden-model.js';
import { GREEDY, LIMITS, loadAll, run, sameUpTo, type TestRow } from './loop-run.js';

describe('key/value memory', async () => {
  const model = await openGolden('llama');
  after(() => model.close());
  const { spec } = model.folder;
  const positionBytes = spec.layers.length * 2 * spec.kvHeads * spec.headDim * 4;
  const open = async (limits: Partial<LoopLimits>) => {
    const engine = new EngineLoop(model.runner, { ...LIMITS, ...limits });
    return { engine, digests: [...(await loadAll(model, engine)).values()] };
  };
  const roomy = await open({});
  const tight = await open({ maxPositions: 320, maxBatch: 6 });
  const apart = await open({ maxPositions: 400, stepPositions: 8, prefixBytes: 64 * 32 * positionBytes });
  const ids = fc.array(fc.integer({ min: 0, max: spec.vocabSize - 1 }), { minLength: 1, maxLength: 120 });
  const row = fc.record({
    promptIds: fc.oneof(
      ids,
      ids.map((long) => long.slice(0, 12)),
    ),
    selection: fc.oneof(
      fc.constant([]),
      fc.constantFrom(...roomy.digests).map((digest) => [{ digest, weight: 1 }]),
    ),
    sampling: fc
      .record({ temperature: fc.constantFrom(0, 0.8), seed: fc.nat(), repetitionPenalty: fc.constantFrom(1, 1.2) })
      .map((chosen) => ({ ...GREEDY, logprobs: 0, ...chosen })),
    maxNewTokens: fc.integer({ min: 1, max: 60 }),
    arrives: fc.integer({ min: 0, max: 20 }),
    priority: fc.integer({ min: 0, max: 1 }),
    cancelled: fc.option(fc.integer({ min: 10, max: 60 }), { nil: undefined, freq: 6 }),
  });

  // Short prompts with long answers: more of them start than have room to the end.
  const crowd: TestRow[] = Array.from({ length: 6 }, (_, i) => ({
    promptIds: Array.from({ length: 10 }, (_, at) => (7 * at + i) % spec.vocabSize),
    selection: [],
    sampling: { ...GREEDY, logprobs: 0 },
    maxNewTokens: 110,
    arrives: 0,
  }));

  for (const [what, { engine }, budget] of [
    ['preempted and recomputed', tight, 320],
    ['kept in groups by length', apart, 400],
  ] as const) {
    test(`rows that are ${what} get the tokens that they get with room for all`, async () => {
      const rowSets: fc.Arbitrary<TestRow[]> = fc.array(row, { minLength: 6, maxLength: 12 });
      await fc.assert(
        fc.asyncProperty(rowSets, async (rows) => {
          const wanted = await run(
            roomy.engine,
            rows.map((one) => ({ ...one, cancelled: undefined })),
          );
          const got = await run(engine, rows, () => {
            const { kvBytes } = engine.stats();
            assert.ok(kvBytes <= budget * positionBytes, `${kvBytes / positionBytes} positions of ${budget}`);
          });
          for (const [i, { tokens, logprobs, end }] of got.entries()) {
            if (rows[i]!.cancelled === undefined) assert.equal(end!.cause, 'length');
            const same = sameUpTo(tokens, wanted[i]!.tokens, rows[i]!.sampling.temperature);
            assert.deepEqual(tokens.slice(0, same), wanted[i]!.tokens.slice(0, same), `row ${i}`);
            if (end!.cause === 'length') assert.equal(tokens.length, rows[i]!.maxNewTokens);
            for (const [at, logprob] of logprobs.slice(0, same).entries()) {
              assert.ok(Math.abs(logprob! - wanted[i]!.logprobs[at]!) < 1e-3, `row ${i}, token ${at}`);
            }
          }
          assert.equal(engine.stats().kvBytes, 0);
        }),
        { numRuns: 8, examples: [[crowd]] },
      );
      assert.ok(engine.stats().preemptions > 0, 'memory ran out at times');
    });
  }

  test('a row that needs the whole budget runs alone, and again after others', async () => {
    const whole: TestRow = {
      promptIds: Array.from({ length: 300 }, (_, i) => (i * 7) % spec.vocabSize),
      selection: [],
      sampling: GREEDY,
      maxNewTokens: 20,
      arrives: 0,
    };
    const small = { ...whole, promptIds: whole.promptIds.slice(0, 20), arrives: 1 };
    const [alone] = await run(roomy.engine, [whole]);
    const got = await run(tight.engine, [whole, small, { ...whole, arrives: 2 }]);
    assert.deepEqual(got[0]!.tokens, alone!.tokens);
    assert.deepEqual(got[2]!.tokens, alone!.tokens);
  });
});
