/** Rows of different adapters, lengths and arrivals in one batch: each gets exactly what it gets alone. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { KvStore } from '../../server/engine/kv-store.js';
import { needsFullGraph } from '../../server/engine/row-adapter.js';
import { GOLDEN_MODELS, type GoldenModel, openGolden } from './golden-model.js';
import { GREEDY, LIMITS, loadAll, run, sameUpTo, type TestRow } from './loop-run.js';

/** How rows of several selections share products. */
const SHARING = {
  groups: [['base', 'lora', 'full'], undefined],
  pieces: [['base', 'lora', 'pieces', 'full'], Number.POSITIVE_INFINITY],
} as const;
const openSharing = (name: string, how: keyof typeof SHARING) =>
  openGolden(name, SHARING[how][0], 'fp32', SHARING[how][1]);

/** The steps of several selections ran in the graph that is looked at here. */
const ranAs = ({ steps }: GoldenModel, how: keyof typeof SHARING): void => {
  const count = steps.get(how === 'pieces' ? 'pieces' : 'lora') ?? 0;
  assert.ok(count > 0, `no step ran in ${how}: the test shows nothing`);
};

for (const [name, how] of GOLDEN_MODELS.flatMap((name) => [[name, 'groups'] as const, [name, 'pieces'] as const])) {
  describe(`golden batches of ${name} in ${how}`, async () => {
    const model = await openSharing(name, how);
    after(() => model.close());
    after(() => ranAs(model, how));
    const engine = new EngineLoop(model.runner, LIMITS);
    const digests = await loadAll(model, engine);
    const rowFor = (prompt: string, adapter: string | null): TestRow => ({
      promptIds: model.promptIds(prompt),
      selection: adapter === null ? [] : [{ digest: digests.get(adapter)!, weight: 1 }],
      sampling: GREEDY,
      maxNewTokens: 24,
      arrives: 0,
    });

    test('every adapter continues every prompt as PyTorch does, all in one queue', async () => {
      const cases = [null, ...digests.keys()].flatMap((adapter) =>
        Object.entries(model.expected(adapter)).map(([prompt, wanted]) => ({ adapter, prompt, wanted })),
      );
      const outcomes = await run(
        engine,
        cases.map(({ prompt, adapter }) => rowFor(prompt, adapter)),
      );
      for (const [i, { adapter, prompt, wanted }] of cases.entries()) {
        assert.deepEqual(outcomes[i]!.tokens, wanted.greedy, `${adapter ?? 'base'} on ${prompt}`);
      }
    });

    for (const [i, { rows }] of model.golden.mixed_batches.entries()) {
      test(`mixed batch ${i} gives each row its single-row answer`, async () => {
        const outcomes = await run(
          engine,
          rows.map(({ prompt, adapter }) => rowFor(prompt, adapter)),
        );
        for (const [at, { prompt, adapter }] of rows.entries()) {
          assert.deepEqual(
            outcomes[at]!.tokens,
            model.expected(adapter)[prompt]!.greedy,
            `row ${at}: ${adapter} on ${prompt}`,
          );
        }
      });
    }
  });
}

for (const how of ['groups', 'pieces'] as const)
  describe(`a row is alone in ${how}`, async () => {
    const model = await openSharing('llama', how);
    after(() => model.close());
    after(() => ranAs(model, how));
    const engine = new EngineLoop(model.runner, LIMITS);
    const digests = [...(await loadAll(model, engine)).values()];

    const selection = fc.oneof(
      { weight: 1, arbitrary: fc.constant([]) },
      { weight: 3, arbitrary: fc.constantFrom(...digests).map((digest) => [{ digest, weight: 1 }]) },
      {
        weight: 1,
        arbitrary: fc
          .uniqueArray(fc.constantFrom(...digests.slice(0, 6)), { minLength: 2, maxLength: 3 })
          .chain((chosen) =>
            fc
              .array(fc.double({ min: -1, max: 1, noNaN: true }), {
                minLength: chosen.length,
                maxLength: chosen.length,
              })
              .map((weights) => chosen.map((digest, i) => ({ digest, weight: weights[i]! }))),
          ),
      },
    );
    const row = fc.record({
      promptIds: fc.array(fc.integer({ min: 0, max: model.folder.spec.vocabSize - 1 }), {
        minLength: 1,
        maxLength: 60,
      }),
      selection,
      sampling: fc
        .record({ temperature: fc.constantFrom(0, 0.8, 1.3), seed: fc.nat() })
        .map((chosen) => ({ ...GREEDY, logprobs: 0, ...chosen })),
      maxNewTokens: fc.integer({ min: 1, max: 20 }),
      arrives: fc.integer({ min: 0, max: 30 }),
      cancelled: fc.option(fc.integer({ min: 31, max: 60 }), { nil: undefined, freq: 4 }),
    });

    test('its tokens and log-probabilities do not depend on neighbours, arrivals and cancels', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 12 }), async (rows) => {
          const together = await run(engine, rows);
          for (const [i, one] of rows.entries()) {
            const [alone] = await run(engine, [{ ...one, arrives: 0, cancelled: undefined }]);
            const count = together[i]!.tokens.length;
            if (one.cancelled === undefined) assert.equal(count, one.maxNewTokens);
            const { tokens } = together[i]!;
            const same = sameUpTo(tokens, alone!.tokens, one.sampling.temperature);
            assert.deepEqual(tokens.slice(0, same), alone!.tokens.slice(0, count).slice(0, same), `row ${i}`);
            for (const [at, logprob] of together[i]!.logprobs.slice(0, same).entries()) {
              assert.ok(
                Math.abs(logprob! - alone!.logprobs[at]!) < 1e-3,
                `row ${i}, token ${at}: ${logprob} against ${alone!.logprobs[at]}`,
              );
            }
          }
        }),
        { numRuns: 25 },
      );
    });

    test('also when rows change their places to lie beside their like', async (t) => {
      const plain = digests.filter((digest) => !needsFullGraph(engine.adapter(digest)!)).slice(0, 4);
      const moves = t.mock.method(KvStore.prototype, 'reorder');
      // A row comes to the place of one of another adapter, whose partner is left beside it.
      const rows = [...'aabbccddb'].map((letter, i) => ({
        promptIds: [1 + i, 7, 3 + i],
        selection: [{ digest: plain['abcd'.indexOf(letter)]!, weight: 1 }],
        sampling: GREEDY,
        maxNewTokens: 60,
        arrives: i < 8 ? 0 : 20,
        cancelled: { 0: 19, 2: 30 }[i],
      }));
      const together = await run(engine, rows);
      assert.ok(moves.mock.callCount() > 0, 'no row was moved: the test shows nothing');
      for (const [i, one] of rows.entries()) {
        const [alone] = await run(engine, [{ ...one, arrives: 0, cancelled: undefined }]);
        const { tokens } = together[i]!;
        assert.ok(tokens.length > 5, `row ${i} has ${tokens.length} tokens`);
        assert.deepEqual(tokens, alone!.tokens.slice(0, tokens.length), `row ${i}`);
      }
    });

    test('a row that names an adapter that is not loaded ends with an error and no token', async () => {
      const [outcome] = await run(engine, [
        {
          promptIds: [1],
          selection: [{ digest: 'unknown', weight: 1 }],
          sampling: GREEDY,
          maxNewTokens: 3,
          arrives: 0,
        },
      ]);
      assert.equal(outcome!.end!.cause, 'error');
      assert.deepEqual(outcome!.tokens, []);
    });
  });
