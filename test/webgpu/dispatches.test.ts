/** What a step runs on the device, by onnxruntime's profile: what adapters may cost, and that nothing runs elsewhere. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { countDispatches, countPicks, shortened } from '../../bench/gpu-dispatches.js';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { cutRow } from '../../server/model/webgpu/picks-graph.js';
import { openGolden } from '../engine/golden-model.js';
import { everything, FP32, noGpu } from './gpu-golden.js';

/** Groups of linears that a layer has (q/k/v, output, gate/up, down), and what adapters add to each. */
const GROUPS = 4;
const EXTRA = 4;

/** Adapters that between them change every linear, and one with gains or biases, which needs the full graph. */
const MODELS = {
  qwen3: { adapters: ['all-r8', 'qv-r4', 'patterns'], full: 'dora' },
  ...(everything && { gpt2: { adapters: ['all-r8', 'c-attn-r4'], full: 'bias-lora-only' } }),
};

describe('what a step runs on WebGPU', { skip: noGpu }, () => {
  for (const [name, wanted] of Object.entries(MODELS)) {
    test(`${name}: four dispatches more for each linear group, however many adapters run, and none on the processor`, async () => {
      const model = await openGolden(name, []);
      const bind = async (adapter: string): Promise<BoundAdapter> => {
        const whole = await model.adapter(model.golden.adapters[adapter]!.path);
        return { ...whole, linears: whole.linears.filter(({ module }) => !/\.[2-9]\./.test(module)) };
      };
      const several = await Promise.all(wanted.adapters.map(bind));
      const cases = [[], several, [await bind(wanted.full)]];
      const [base, lora, full] = await countDispatches(shortened(model.folder, 2), cases, 4, FP32);
      for (const { total } of [base!, lora!, full!]) assert.deepEqual(total.elsewhere, []);
      assert.ok(base!.total.dispatches >= base!.total.nodes, JSON.stringify(base));
      assert.deepEqual(lora!.layer, {
        dispatches: base!.layer.dispatches + EXTRA * GROUPS,
        nodes: base!.layer.nodes + EXTRA * GROUPS,
      });
      // The head is a group that no adapter here changes: of its nodes one has something to do, passing the base on.
      assert.equal(lora!.total.dispatches - base!.total.dispatches, EXTRA * 2 * GROUPS + 1);
      assert.ok(full!.layer.dispatches - base!.layer.dispatches <= (EXTRA + 3) * GROUPS, JSON.stringify(full));
      await model.close();
    });
  }

  test('finding the largest logits takes ten dispatches, and one more where the vocabulary has to be padded', async () => {
    const [divided, padded] = [384, 383];
    assert.deepEqual([cutRow(divided).padding === 0, cutRow(padded).padding === 0], [true, false]);
    assert.deepEqual(await countPicks(divided, 4), { dispatches: 10, nodes: 10, elsewhere: [] });
    assert.deepEqual(await countPicks(padded, 4), { dispatches: 11, nodes: 11, elsewhere: [] });
  });
});
