/** The WebGPU provider's arithmetic against PyTorch, row by row and in mixed batches, with the CPU's tolerance. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { activationPoint, spansOf } from '../../server/engine/row-spans.js';
import { GOLDEN_MODELS, logitError } from '../engine/golden-model.js';
import { GREEDY, LIMITS, run } from '../engine/loop-run.js';
import { everything, type GpuGolden, noGpu, openGpuGolden } from './gpu-golden.js';

/** The bound of the tests on the processor. Measured on SwiftShader: 5e-5 at most. */
const TOLERANCE = 2e-4;

/**
 * By default: heads that the provider's attention takes and heads that it does not, with and without norms of q and k,
 * windows, and adapters for every input of the graphs (pairs, gains, biases, norms, the head, the embedding).
 */
const SOME: Readonly<Record<string, readonly string[]>> = {
  llama: ['all-r8', 'dora', 'lora-bias', 'save-embed-norm', 'embed-head-nobase', 'alora'],
  mistral: ['all-r8'],
  qwen3: ['all-r8', 'patterns', 'lm-head-r1'],
  gpt2: ['all-r8', 'bias-lora-only'],
};

for (const name of GOLDEN_MODELS.filter((model) => everything || model in SOME)) {
  describe(`golden ${name} on WebGPU`, { skip: noGpu }, () => {
    let opened: GpuGolden;
    before(async () => {
      opened = await openGpuGolden(name);
    });
    after(() => opened.close());
    const names = (): string[] =>
      Object.entries(opened.model.golden.adapters)
        .filter(([adapter, { policy }]) => policy === 'load' && (everything || SOME[name]!.includes(adapter)))
        .map(([adapter]) => adapter);

    /** Logits of every prompt position, [prompt, vocab]. */
    const logits = async (ids: readonly number[], spans: readonly { from: number; adapter: RowAdapter }[]) => {
      const { runner } = opened;
      const { vocabSize } = runner.spec;
      const store = runner.createStore(1, ids.length);
      const all = new Float32Array(ids.length * vocabSize);
      for (const [i, { from, adapter }] of spans.entries()) {
        const chunk = ids.slice(from, spans[i + 1]?.from);
        const rows = chunk.map((_, at) => at);
        all.set(await runner.prefill(chunk, from, store, adapter, rows), from * vocabSize);
      }
      store.release();
      return all;
    };

    test('logits of the base and of adapters equal PyTorch at all positions', async () => {
      for (const adapterName of [null, ...names()]) {
        const adapter =
          adapterName === null
            ? undefined
            : await opened.model.adapter(opened.model.golden.adapters[adapterName]!.path);
        if (adapter !== undefined) await opened.runner.load(adapter);
        for (const [prompt, wanted] of Object.entries(opened.model.expected(adapterName))) {
          const ids = opened.model.promptIds(prompt);
          const parts = adapter === undefined ? [] : [{ adapter, weight: 1, from: activationPoint(adapter, ids) }];
          const computed = await logits(
            ids,
            spansOf(parts, (active) => combine(active)),
          );
          const error = await logitError(opened.model, wanted, computed);
          assert.ok(error <= TOLERANCE, `${adapterName ?? 'base'} on ${prompt}: logits differ by ${error}`);
        }
        if (adapter !== undefined) opened.runner.unload(adapter.digest);
      }
    });

    test('weighted sums of adapters are exact', async () => {
      for (const { combination_type, adapters, weights, prompts } of opened.model.golden.weighted) {
        if (combination_type !== 'cat') continue;
        const parts = [];
        for (const [at, part] of adapters.entries())
          parts.push({
            adapter: await opened.model.adapter(opened.model.golden.adapters[part]!.path),
            weight: weights[at]!,
          });
        for (const [prompt, wanted] of Object.entries(prompts)) {
          const computed = await logits(opened.model.promptIds(prompt), [{ from: 0, adapter: combine(parts) }]);
          const error = await logitError(opened.model, wanted, computed);
          assert.ok(error <= TOLERANCE, `${adapters.join('+')} on ${prompt}: logits differ by ${error}`);
        }
      }
    });

    test('all rows in one queue: each gets its own tokens whatever its neighbours are', async () => {
      const engine = new EngineLoop(opened.runner, LIMITS);
      const digests = new Map<string, string>();
      for (const adapterName of names()) {
        const adapter = await opened.model.adapter(opened.model.golden.adapters[adapterName]!.path);
        await engine.load(adapter);
        digests.set(adapterName, adapter.digest);
      }
      const cases = [null, ...names()].flatMap((adapter) =>
        Object.entries(opened.model.expected(adapter))
          .slice(0, everything ? undefined : 2)
          .map(([prompt, { greedy }]) => ({ adapter, prompt, greedy })),
      );
      const outcomes = await run(
        engine,
        cases.map(({ adapter, prompt, greedy }, i) => ({
          promptIds: opened.model.promptIds(prompt),
          selection: adapter === null ? [] : [{ digest: digests.get(adapter)!, weight: 1 }],
          sampling: GREEDY,
          maxNewTokens: everything ? greedy.length : 8 + (i % 3),
          arrives: i % 4,
        })),
      );
      for (const [i, { adapter, prompt, greedy }] of cases.entries()) {
        const { tokens, end } = outcomes[i]!;
        assert.equal(end?.cause, 'length', `${adapter ?? 'base'} on ${prompt}: ${end?.message}`);
        assert.deepEqual(tokens, greedy.slice(0, tokens.length), `${adapter ?? 'base'} on ${prompt}`);
      }
      for (const digest of digests.values()) engine.unload(digest);
    });
  });
}
