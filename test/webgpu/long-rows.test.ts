/**
 * Rows of hundreds of positions on the device beside the processor's exact arithmetic: prompts read in many chunks, caches
 * that grow while rows join and leave, prefixes that are used again. The golden set's own rows are shorter.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { BoundAdapter } from '../../server/adapters/types.js';
import type { StepBackend } from '../../server/engine/backend.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { BASE_ROW, combine, type RowAdapter } from '../../server/engine/row-adapter.js';
import { type GoldenModel, openGolden } from '../engine/golden-model.js';
import { GREEDY, LIMITS, run, type TestRow } from '../engine/loop-run.js';
import { type GpuGolden, noGpu, openGpuGolden } from './gpu-golden.js';

/** Bounds on a logit, and on a log-probability, which has a sum of logits in it. */
const TOLERANCE = 2e-4;
const LENGTH = 420;

/** The provider's attention kernels, and primitive operators with a window. */
for (const name of ['llama', 'mistral']) {
  describe(`long rows of ${name} on WebGPU`, { skip: noGpu }, () => {
    let gpu: GpuGolden;
    let host: GoldenModel;
    let adapters: BoundAdapter[];
    before(async () => {
      gpu = await openGpuGolden(name);
      host = await openGolden(name, ['base', 'lora']);
      const bind = (adapter: string) => host.adapter(host.golden.adapters[adapter]!.path);
      adapters = [await bind('all-r8'), await bind('qv-r4')];
    });
    after(async () => {
      await gpu.close();
      await host.close();
    });

    const tokens = (count: number, seed: number) =>
      Array.from({ length: count }, (_, i) => 3 + ((i * i * 7 + i * seed + 11) % 90));

    test(`logits at ${LENGTH} positions, read in chunks of many lengths`, async () => {
      const ids = tokens(LENGTH, 5);
      const read = async (backend: StepBackend, adapter: RowAdapter) => {
        const store = backend.createStore(1, 32);
        const all: Float32Array[] = [];
        for (let at = 0, i = 0; at < ids.length; i += 1) {
          const chunk = ids.slice(at, at + [64, 1, 97, 31, 33][i % 5]!);
          const logits = await backend.prefill(chunk, at, store, adapter, [0, chunk.length - 1], LENGTH);
          all.push(logits.slice());
          at += chunk.length;
        }
        store.release();
        return all;
      };
      await gpu.runner.load(adapters[0]!);
      for (const adapter of [BASE_ROW, combine([{ adapter: adapters[0]!, weight: 1 }])]) {
        const [got, wanted] = [await read(gpu.runner, adapter), await read(host.runner, adapter)];
        const worst = Math.max(...wanted.map((logits, i) => distance(logits, got[i]!)));
        assert.ok(worst <= TOLERANCE, `logits differ by ${worst}`);
      }
      gpu.runner.unload(adapters[0]!.digest);
    });

    test('rows that join, leave, grow and share prefixes get the tokens of the processor', async () => {
      const row = (more: Partial<TestRow>, adapter?: BoundAdapter): TestRow => ({
        promptIds: tokens(300, 3),
        selection: adapter === undefined ? [] : [{ digest: adapter.digest, weight: 1 }],
        sampling: { ...GREEDY, logprobs: 0 },
        maxNewTokens: 12,
        arrives: 0,
        ...more,
      });
      const rows = [
        row({}, adapters[0]),
        row({ promptIds: tokens(9, 8), maxNewTokens: 110, arrives: 1 }, adapters[1]),
        row({ promptIds: tokens(180, 4), maxNewTokens: 40, arrives: 3 }),
        row({ promptIds: tokens(250, 6), arrives: 4, cancelled: 14 }, adapters[1]),
        row({ arrives: 45 }, adapters[0]),
        row({ promptIds: [...tokens(300, 3), ...tokens(60, 9)], arrives: 50 }, adapters[0]),
      ];
      const answers = async (backend: StepBackend) => {
        const limits = { ...LIMITS, prefillChunk: 64, stepPositions: 200, prefixBytes: 1 << 24 };
        const engine = new EngineLoop(backend, limits);
        for (const adapter of adapters) await engine.load(adapter);
        const outcomes = await run(engine, rows);
        for (const { digest } of adapters) engine.unload(digest);
        return outcomes;
      };
      const [got, wanted] = [await answers(gpu.runner), await answers(host.runner)];
      for (const [i, { tokens: ids, logprobs, end }] of wanted.entries()) {
        const mine = got[i]!;
        if (rows[i]!.cancelled !== undefined) continue;
        assert.equal(mine.end!.cause, 'length', mine.end!.message);
        assert.deepEqual(mine.tokens, ids, `row ${i}`);
        const worst = distance(logprobs as number[], mine.logprobs as number[]);
        assert.ok(worst <= TOLERANCE, `row ${i}: log-probabilities differ by ${worst}`);
        assert.equal(mine.end!.cachedTokens, end!.cachedTokens);
      }
      assert.ok(got[4]!.end!.cachedTokens >= 256 && got[5]!.end!.cachedTokens >= 256);
    });
  });
}

function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.equal(a.length, b.length);
  let worst = 0;
  for (let i = 0; i < a.length; i += 1) worst = Math.max(worst, Math.abs(a[i]! - b[i]!));
  return Number.isNaN(worst) ? Number.POSITIVE_INFINITY : worst;
}
