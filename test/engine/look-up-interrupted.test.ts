/** Rows that guess under every rule of sampling, and rows that are disturbed while they do. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { StepRunner } from '../../server/engine/step-runner.js';
import { GOLDEN } from './golden-model.js';
import { CHOICES, few, openPair, sameWithGuesses } from './look-up-run.js';
import { run, type TestRow } from './loop-run.js';

const FEW = few(CHOICES.seeded, [5, 6]);
const PROMPT = Array.from({ length: 24 }, (_, i) => 5 + (i % 6));

describe('look-up that is ruled and disturbed', async () => {
  const pair = await openPair(`${GOLDEN}models/llama`);
  after(() => pair.folder.close());
  const { digest } = await pair.load(`${GOLDEN}adapters/llama/all-r8`);
  const rowOf = (more: Partial<TestRow> = {}): TestRow => ({
    promptIds: PROMPT,
    selection: [{ digest, weight: 1 }],
    sampling: FEW,
    maxNewTokens: 80,
    arrives: 0,
    ...more,
  });

  const rules = {
    'a repetition penalty': { repetitionPenalty: 1.3 },
    'a presence penalty': { presencePenalty: 1.5 },
    'a frequency penalty': { frequencyPenalty: 0.7 },
    'all penalties': { repetitionPenalty: 1.1, presencePenalty: 0.5, frequencyPenalty: -0.2 },
    'top-k': { topK: 2 },
    'top-p': { topP: 0.7 },
    'min-p': { minP: 0.2 },
    'typical-p': { typicalP: 0.8 },
    'a high temperature': { temperature: 8 },
  };
  for (const [rule, options] of Object.entries(rules)) {
    test(`${rule}: the same tokens for every seed`, async () => {
      let [accepted, rejected] = [0, 0];
      const texts = new Set<string>();
      for (const seed of [1, 2, 3, 4]) {
        const got = await sameWithGuesses(pair, rowOf({ sampling: { ...FEW, ...options, seed } }));
        accepted += got.accepted;
        rejected += got.rejected;
        texts.add(got.tokens.join());
      }
      assert.ok(accepted > 0, 'no guess came true');
      assert.ok(rejected > 0, 'no guess was wrong');
      assert.ok(texts.size > 1, 'seeds differ');
    });
  }

  test('a row that is cancelled while its guesses are computed ends with what it had', async () => {
    const { guessing } = pair;
    const [whole] = await run(pair.plain, [rowOf()]);
    let within = 0;
    for (let cancelled = 1; cancelled < 30; cancelled += 1) {
      assert.equal(guessing.submit({ ...rowOf(), id: 1, endIds: [], submittedAt: 0 }), undefined);
      const tokens: number[] = [];
      const causes: string[] = [];
      for (let step = 0; guessing.busy; step += 1) {
        const running = guessing.step();
        if (step === cancelled) guessing.cancel([1]);
        const output = await running;
        tokens.push(...output.tokens.map(({ token }) => token));
        causes.push(...output.ends.map(({ cause }) => cause));
        within += Number(step === cancelled && output.tokens.length > 1);
        assert.ok(step <= cancelled + 1, 'it ends with the next step');
      }
      assert.deepEqual(causes, ['cancelled']);
      assert.deepEqual(tokens, whole!.tokens.slice(0, tokens.length));
      assert.equal(guessing.stats().kvBytes, 0);
    }
    assert.ok(within > 0, 'no step with guesses was met');
    await sameWithGuesses(pair, rowOf());
  });

  test('a row that comes while guesses are computed waits for them, and both get what they get alone', async () => {
    const { guessing } = pair;
    const rows = [rowOf(), rowOf({ sampling: { ...FEW, seed: 9 }, selection: [], maxNewTokens: 12 })];
    const alone = [(await run(pair.plain, [rows[0]!]))[0]!, (await run(pair.plain, [rows[1]!]))[0]!];
    let within = 0;
    for (let arrives = 1; arrives < 20; arrives += 1) {
      const tokens: number[][] = [[], []];
      const submit = (id: number) =>
        assert.equal(guessing.submit({ ...rows[id]!, id, endIds: [], submittedAt: 0 }), undefined);
      submit(0);
      for (let step = 0; guessing.busy; step += 1) {
        const running = guessing.step();
        if (step === arrives) submit(1);
        const output = await running;
        within += Number(step === arrives && output.tokens.length > 1);
        for (const { id, token } of output.tokens) tokens[id]!.push(token);
      }
      assert.deepEqual(tokens, [alone[0]!.tokens, alone[1]!.tokens], `arrives in step ${arrives}`);
    }
    assert.ok(within > 0, 'no step with guesses was met');
  });

  for (const prefixBytes of [0, 1 << 24]) {
    test(`a row that loses its memory after guesses goes on with them: prefix cache of ${prefixBytes} bytes`, async (t) => {
      // Room for one whole row, and for parts of two.
      const maxPositions = 192;
      const tight = await openPair(`${GOLDEN}models/llama`, { maxPositions, prefixBytes });
      t.after(() => tight.folder.close());
      const { plain, guessing } = tight;
      await tight.load(`${GOLDEN}adapters/llama/all-r8`);
      const first = rowOf({ maxNewTokens: 120 });
      const second = rowOf({ maxNewTokens: 100, priority: 1, sampling: { ...FEW, seed: 11 } });
      const alone = [(await run(plain, [first]))[0]!, (await run(plain, [second]))[0]!];
      for (const arrives of [6, 9, 14]) {
        const before = guessing.stats();
        let preempted = 0;
        let [ahead, behind] = [0, 0];
        const got = await run(guessing, [first, { ...second, arrives }], () => {
          const { guessesAccepted, preemptions } = guessing.stats();
          preempted = preemptions - before.preemptions;
          if (preempted === 0) ahead = guessesAccepted - before.guessesAccepted;
          else behind = guessesAccepted - before.guessesAccepted - ahead;
        });
        assert.deepEqual(got[0]!.tokens, alone[0]!.tokens);
        assert.deepEqual(got[1]!.tokens, alone[1]!.tokens);
        assert.ok(preempted > 0, 'nothing was taken from anybody');
        assert.ok(ahead > 0, 'no guess came true before');
        assert.ok(behind > 0, 'no guess came true afterwards');
      }
    });
  }

  test('a step with guesses that fails ends its row alone', async (t) => {
    const { guessing } = pair;
    const whole = StepRunner.prototype.prefill;
    let failed = 0;
    t.mock.method(StepRunner.prototype, 'prefill', function (this: StepRunner, ...args: Parameters<typeof whole>) {
      if (args[4].length < 2 || failed > 0) return whole.apply(this, args);
      failed += 1;
      throw new Error('no such luck');
    });
    const [got] = await run(guessing, [rowOf()]);
    assert.equal(failed, 1);
    assert.equal(got!.end!.cause, 'error');
    assert.match(got!.end!.message!, /no such luck/);
    assert.equal(guessing.stats().kvBytes, 0);
    const { accepted } = await sameWithGuesses(pair, rowOf());
    assert.ok(accepted > 0);
  });
});
