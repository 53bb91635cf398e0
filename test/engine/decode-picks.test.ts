/** Steps whose rows all take their largest logit hand out no others, and nobody gets another token for it. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import type { SamplingOptions } from '../../server/engine/messages.js';
import { StepWeights } from '../../server/engine/step-weights.js';
import { counted } from './counted-steps.js';
import { GOLDEN, GOLDEN_MODELS, openGolden } from './golden-model.js';
import { openPair } from './look-up-run.js';
import { GREEDY, LIMITS, loadAll, run, type TestRow } from './loop-run.js';

const NEW_TOKENS = 12;
const CASES = fileURLToPath(new URL('../fixtures/peft-cases/', import.meta.url));

const row = (promptIds: readonly number[], digest?: string, sampling: SamplingOptions = GREEDY): TestRow => ({
  promptIds,
  selection: digest === undefined ? [] : [{ digest, weight: 1 }],
  sampling,
  maxNewTokens: NEW_TOKENS,
  arrives: 0,
});

for (const name of GOLDEN_MODELS) {
  test(`${name}: greedy rows of all adapters get the tokens that whole logits give`, async () => {
    const model = await openGolden(name);
    const [fast, whole] = [counted(model.runner, true), counted(model.runner, false)];
    const results: (readonly number[])[][] = [];
    const logprobs: number[][] = [];
    for (const { backend } of [fast, whole]) {
      const engine = new EngineLoop(backend, { ...LIMITS, maxBatch: 16 });
      const digests = [undefined, ...(await loadAll(model, engine)).values()];
      const rows = digests.map((digest, i) => row(model.golden.prompts[i % 3]!.token_ids, digest));
      const outcomes = await run(engine, rows);
      for (const { end } of outcomes) assert.equal(end!.cause, 'length');
      results.push(outcomes.map(({ tokens }) => tokens));
      // With the log-probability of each token, which whole logits have from other sums.
      const scored = await run(
        engine,
        rows.map((one) => ({ ...one, sampling: { ...GREEDY, logprobs: 0 } })),
      );
      assert.deepEqual(
        scored.map(({ tokens }) => tokens),
        results.at(-1),
      );
      logprobs.push(scored.flatMap((outcome) => outcome.logprobs.map((logprob) => logprob!)));
    }
    for (const [i, logprob] of logprobs[0]!.entries()) assert.ok(Math.abs(logprob - logprobs[1]![i]!) < 1e-5);
    assert.deepEqual(results[0], results[1]);
    assert.ok(fast.steps.largest > 0);
    assert.equal(fast.steps.logits, 0);
    assert.ok(whole.steps.logits > 0);
    await model.close();
  });
}

describe('a greedy row of llama', async () => {
  const model = await openGolden('llama');
  after(() => model.close());
  const { backend, steps } = counted(model.runner, true);
  const engine = new EngineLoop(backend, LIMITS);
  const [first, second] = model.golden.prompts.map(({ token_ids }) => token_ids);
  const [alone] = await run(engine, [row(first!)]);
  const reset = () => Object.assign(steps, { largest: 0, logits: 0 });

  for (const [what, more] of Object.entries<Partial<SamplingOptions>>({
    'is drawn': { temperature: 1, seed: 3 },
    'is penalised for what is there': { repetitionPenalty: 1.3 },
    'has a bias': { logitBias: new Map([[5, 1]]) },
    'asks for log-probabilities': { logprobs: 2 },
  })) {
    test(`gets the same beside a row that ${what}, from whole logits`, async () => {
      reset();
      const [own, other] = await run(engine, [row(first!), row(second!, undefined, { ...GREEDY, ...more })]);
      assert.deepEqual(own!.tokens, alone!.tokens);
      assert.equal(other!.tokens.length, NEW_TOKENS);
      assert.equal(other!.logprobs[0] !== undefined, more.logprobs !== undefined);
      assert.ok(steps.logits >= NEW_TOKENS - 4, 'most steps had both rows');
    });
  }

  test('goes on when the model computes no numbers for the row beside it, which fails', async () => {
    const { layers, hiddenSize } = model.folder.spec;
    const overflowing: BoundAdapter = {
      digest: 'overflows',
      bytes: 0,
      linears: layers.map(({ attention }) => ({
        module: attention.output.module,
        rank: 1,
        scaling: 1,
        a: new Float32Array(attention.output.inFeatures).fill(1e3),
        b: new Float32Array(hiddenSize).fill(3e38),
      })),
      norms: new Map(),
      features: ['lora'],
      warnings: [],
    };
    await engine.load(overflowing);
    reset();
    // A slot's first step: a prompt that overflows fails before it decodes.
    const store = backend.createStore(2, 32);
    const { combine, BASE_ROW } = await import('../../server/engine/row-adapter.js');
    const bad = combine([{ adapter: overflowing, weight: 1 }]);
    const slots = [BASE_ROW, bad].map((adapter) => ({ token: first![0]!, length: 0, adapter, horizon: 32 }));
    const { logits } = await backend.decodeGreedy(slots, store);
    assert.ok(Number.isFinite(logits[0]));
    assert.ok(!Number.isFinite(logits[1]));
    const [own, failed] = await run(engine, [row(first!), row(second!, 'overflows')]);
    assert.deepEqual(own!.tokens, alone!.tokens);
    assert.equal(failed!.end!.cause, 'error');
    assert.match(failed!.end!.message!, /no finite maximum/);
  });
});

test('rows that draw get the same tokens whether their weights are computed together or one by one', async (context) => {
  const computed = context.mock.method(StepWeights.prototype, 'of');
  const model = await openGolden('qwen2');
  const engine = new EngineLoop(model.runner, LIMITS);
  const [digest] = (await loadAll(model, engine)).values();
  const prompts = model.golden.prompts.map(({ token_ids }) => token_ids);
  const drawing: Partial<SamplingOptions>[] = [
    { temperature: 1 },
    { temperature: 0.7, topP: 0.9 },
    { temperature: 3, topP: 0.99, minP: 0.001 },
    { temperature: 0.005, topP: 0.5 },
    { temperature: 1.2, topK: 5 },
    { temperature: 0 },
  ];
  const rows = drawing.map((more, i) =>
    row(prompts[i % prompts.length]!, i % 2 === 0 ? digest : undefined, { ...GREEDY, ...more, seed: 11 + i }),
  );
  const together = await run(engine, rows);
  assert.ok(computed.mock.callCount() >= NEW_TOKENS - 1);
  for (const [i, one] of rows.entries()) {
    const [alone] = await run(engine, [one]);
    // A bias, even of nothing, is applied to logits before they are weighed.
    const [byItself] = await run(engine, [{ ...one, sampling: { ...one.sampling, logitBias: new Map() } }]);
    assert.deepEqual(together[i]!.tokens, byItself!.tokens, JSON.stringify(drawing[i]));
    assert.deepEqual(alone!.tokens, byItself!.tokens, JSON.stringify(drawing[i]));
  }
  await model.close();
});

test('a greedy row whose adapter has ids beyond the base finds them, from whole logits', async () => {
  const cases = readdirSync(CASES).map((name) => {
    const { model, vocab } = JSON.parse(readFileSync(`${CASES}${name}/expected.json`, 'utf8')) as Record<string, never>;
    return { name, model: model as string, vocab: vocab as number };
  });
  let seen = 0;
  for (const { name, model, vocab } of cases) {
    const folder = `${GOLDEN}models/${model}`;
    if (!existsSync(folder)) continue;
    const pair = await openPair(folder);
    const { vocabSize } = pair.folder.spec;
    if (vocab > vocabSize) {
      seen += 1;
      const { digest } = await pair.load(`${CASES}${name}`);
      const asked = row([1, 5, vocabSize, 6], digest);
      const [greedy] = await run(pair.plain, [asked]);
      // Log-probabilities need whole logits and change no token.
      const [whole] = await run(pair.plain, [{ ...asked, sampling: { ...GREEDY, logprobs: 1 } }]);
      assert.deepEqual(greedy!.tokens, whole!.tokens, name);
    }
    await pair.folder.close();
  }
  assert.ok(seen > 0);
});
