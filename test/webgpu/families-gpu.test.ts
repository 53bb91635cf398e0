/** Families on WebGPU against PyTorch: what their graphs have that those of the golden models lack. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import { EngineLoop } from '../../server/engine/engine-loop.js';
import { BASE_ROW, combine } from '../../server/engine/row-adapter.js';
import { GpuRunner } from '../../server/engine/webgpu/gpu-runner.js';
import { GREEDY, LIMITS, run } from '../engine/loop-run.js';
import { CLEAR_MARGIN, FAMILY_FIXTURES, openFamily, TOLERANCE, worst } from '../model/family-fixture.js';
import { everything, FP32, noGpu } from './gpu-golden.js';

/**
 * Neighbours rotated in a part of each head with norms after the blocks; q, k and v head by head; squared ReLU and layer
 * norms stored as offsets.
 */
const SOME = ['glm4', 'gpt_neox-serial', 'nemotron'];

for (const name of everything ? FAMILY_FIXTURES : SOME) {
  describe(`family fixture ${name} on WebGPU`, { skip: noGpu }, async () => {
    if (noGpu !== false) return;
    const { expected, folder, logits, bind, close } = await openFamily(name);
    const runner = await GpuRunner.open(folder, await EmbeddingTable.read(folder), {
      precision: FP32,
      adapterBytes: 1 << 28,
    });
    const { vocabSize } = folder.spec;
    after(async () => {
      await runner.close();
      await close();
    });

    for (const [adapterName, answers] of Object.entries(expected.answers)) {
      test(`${adapterName}: logits at every position and greedy tokens equal PyTorch`, async () => {
        const bound = await bind(adapterName);
        const adapter = bound === undefined ? BASE_ROW : combine([{ adapter: bound, weight: 1 }]);
        const engine = new EngineLoop(runner, LIMITS);
        if (bound !== undefined) await engine.load(bound);
        for (const [prompt, answer] of Object.entries(answers)) {
          const promptIds = expected.prompts[prompt]!;
          const store = runner.createStore(1, promptIds.length);
          const horizon = promptIds.length + answer.greedy.length;
          const rows = promptIds.map((_, at) => at);
          const computed = await runner.prefill(promptIds, 0, store, adapter, rows, horizon);
          assert.equal(computed.length, promptIds.length * vocabSize);
          const error = worst(computed, await logits(answer.horizon_logits ?? answer.logits));
          assert.ok(error <= TOLERANCE, `${prompt}: logits differ by ${error}`);
          store.release();
          if (answer.greedy_min_margin < CLEAR_MARGIN) continue;
          const selection = bound === undefined ? [] : [{ digest: bound.digest, weight: 1 }];
          const maxNewTokens = answer.greedy.length;
          const [outcome] = await run(engine, [{ promptIds, selection, sampling: GREEDY, maxNewTokens, arrives: 0 }]);
          assert.deepEqual(outcome!.tokens, answer.greedy, `${prompt}: greedy tokens`);
        }
        if (bound !== undefined) engine.unload(bound.digest);
      });
    }
  });
}
