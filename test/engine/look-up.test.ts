/** Rows that guess their next tokens from their own text get the tokens that they get without, in fewer steps. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { EngineLoop, type LoopLimits } from '../../server/engine/engine-loop.js';
import { openGolden } from './golden-model.js';
import { GREEDY, LIMITS, loadAll, run, type TestRow } from './loop-run.js';

const MOST = 6;
/** Three tokens to choose from: the text repeats itself, but not so that every guess comes true. */
const FEW = { ...GREEDY, logitBias: new Map([5, 6, 7].map((id) => [id, 40])), presencePenalty: 0.1 };
const SEEDED = { ...FEW, temperature: 1, seed: 7 };

describe('look-up in a row by itself', async () => {
  const model = await openGolden('llama');
  after(() => model.close());
  const open = async (more: Partial<LoopLimits> = {}) => {
    const engine = new EngineLoop(model.runner, { ...LIMITS, ...more });
    return { engine, digests: await loadAll(model, engine) };
  };
  const plain = await open();
  const [first, second] = [...plain.digests.values()];
  const prompt = Array.from({ length: 24 }, (_, i) => 5 + (i % 6));
  const rowOf = (more: Partial<TestRow> = {}): TestRow => ({
    promptIds: prompt,
    selection: [],
    sampling: SEEDED,
    maxNewTokens: 120,
    arrives: 0,
    ...more,
  });

  const selections = {
    base: [],
    adapter: [{ digest: first!, weight: 1 }],
    mixture: [
      { digest: first!, weight: 0.5 },
      { digest: second!, weight: 0.5 },
    ],
  };
  for (const [what, selection] of Object.entries(selections)) {
    for (const [how, sampling] of Object.entries({ greedy: FEW, seeded: SEEDED })) {
      test(`gives the same tokens and log-probabilities: ${what}, ${how}`, async () => {
        const row = rowOf({ selection, sampling: { ...sampling, logprobs: 1 } });
        const [expected] = await run(plain.engine, [row]);
        const { engine } = await open({ lookupTokens: MOST });
        const [got] = await run(engine, [row]);
        assert.deepEqual(got!.tokens, expected!.tokens);
        for (const [i, logprob] of got!.logprobs.entries())
          assert.ok(Math.abs(logprob! - expected!.logprobs[i]!) < 1e-4, `token ${i}`);
        const { guessesAccepted, guessesRejected, decodeSteps, decodeTokens } = engine.stats();
        assert.ok(guessesAccepted > 0, 'guesses came true');
        assert.ok(guessesRejected > 0 || how === 'greedy', 'and some did not');
        assert.equal(decodeTokens, got!.tokens.length - 1);
        assert.equal(decodeSteps, decodeTokens - guessesAccepted);
      });
    }
  }

  test('ends with an end id or with its most tokens within what was guessed', async () => {
    const { engine } = await open({ lookupTokens: MOST });
    const whole = (await run(plain.engine, [rowOf()]))[0]!.tokens;
    for (const maxNewTokens of [1, 2, 3, 30, 31, 32, 33, 34, 35]) {
      const [got] = await run(engine, [rowOf({ maxNewTokens })]);
      assert.deepEqual(got!.tokens, whole.slice(0, maxNewTokens));
      assert.equal(got!.end!.cause, 'length');
    }
    // One token in three ends the row; the guesses know nothing of it.
    let within = 0;
    for (let seed = 1; seed <= 30; seed += 1) {
      const sampling = { ...SEEDED, seed, logitBias: new Map([5, 6, 7].map((id) => [id, id === 7 ? 38 : 40])) };
      const request = { ...rowOf({ sampling }), id: seed, endIds: [7], submittedAt: 0 };
      const tokens: number[] = [];
      assert.equal(engine.submit(request), undefined);
      let ended = false;
      while (engine.busy) {
        const output = await engine.step();
        tokens.push(...output.tokens.map(({ token }) => token));
        if (output.ends.length > 0 && output.tokens.length > 1) within += 1;
        ended ||= output.ends.some(({ cause }) => cause === 'end-id');
      }
      assert.equal(ended, tokens.includes(7));
      assert.ok(!tokens.slice(0, -1).includes(7), 'nothing follows the end');
    }
    assert.ok(within > 0, 'a row ended in a step that gave it several tokens');
  });

  test('stops while a second row is there, which gets what it gets alone', async () => {
    const { engine } = await open({ lookupTokens: MOST });
    const rows = [
      rowOf(),
      rowOf({ sampling: { ...SEEDED, seed: 8 }, selection: selections.adapter, maxNewTokens: 20 }),
    ];
    const alone = [(await run(plain.engine, [rows[0]!]))[0]!, (await run(plain.engine, [rows[1]!]))[0]!];
    let before = 0;
    let together = 0;
    const got = await run(engine, [rows[0]!, { ...rows[1]!, arrives: 12 }], () => {
      const { guessesAccepted, guessesRejected, runningRows } = engine.stats();
      if (runningRows === 2 && before > 0) together += Number(guessesAccepted + guessesRejected > before);
      before = guessesAccepted + guessesRejected;
    });
    assert.deepEqual(got[0]!.tokens, alone[0]!.tokens);
    assert.deepEqual(got[1]!.tokens, alone[1]!.tokens);
    assert.ok(before > 0);
    assert.equal(together, 0, 'no guesses beside another row');
  });

  test('keeps within a store that cannot grow', async () => {
    // Room for the whole row and not for a token more.
    const maxPositions = Math.ceil((prompt.length + 120) / 32) * 32;
    const { engine } = await open({ lookupTokens: MOST, maxPositions });
    const [expected] = await run(plain.engine, [rowOf()]);
    let most = 0;
    const [got] = await run(engine, [rowOf()], () => {
      most = Math.max(most, engine.stats().kvBytes);
    });
    assert.deepEqual(got!.tokens, expected!.tokens);
    assert.ok(engine.stats().guessesAccepted > 0);
    assert.ok(most <= maxPositions * model.runner.positionBytes);
  });

  test('leaves a prefix that another row may go on with', async () => {
    const { engine } = await open({ lookupTokens: MOST, prefixBytes: 1 << 24 });
    const [whole] = await run(engine, [rowOf()]);
    const next = rowOf({ promptIds: [...prompt, ...whole!.tokens], maxNewTokens: 16 });
    const [got] = await run(engine, [next]);
    assert.ok(got!.end!.cachedTokens >= 96);
    assert.deepEqual(got!.tokens, (await run(plain.engine, [next]))[0]!.tokens);
  });

  test('is off unless it is asked for', () => {
    const { guessesAccepted, guessesRejected } = plain.engine.stats();
    assert.deepEqual([guessesAccepted, guessesRejected], [0, 0]);
  });
});
