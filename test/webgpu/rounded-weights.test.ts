/**
 * 8 and 4 bits a weight on the device: the logits are those of float32 arithmetic on the rounded weights, and for 8 bits
 * those of the processor's block kernel, which holds the same blocks, as far as its rounding of activations lets it.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { BoundAdapter } from '../../server/adapters/types.js';
import { SessionFactory } from '../../server/engine/decoder-session.js';
import { EmbeddingTable } from '../../server/engine/embedding-table.js';
import * as ort from '../../server/engine/ort.js';
import { BASE_ROW, combine } from '../../server/engine/row-adapter.js';
import { StepRunner } from '../../server/engine/step-runner.js';
import { GpuDevice } from '../../server/engine/webgpu/gpu-device.js';
import type { ModelFolder } from '../../server/model/model-folder.js';
import { GraphBuilder } from '../../server/model/onnx-graph.js';
import { quantise } from '../../server/model/quantise.js';
import { allLinears } from '../../server/model/spec.js';
import { emitProduct, groupWeights, weightInputs } from '../../server/model/webgpu/gpu-weights.js';
import { allGroups, groupOf } from '../../server/model/webgpu/linear-groups.js';
import { decodeTogether } from '../engine/decode-together.js';
import { everything, noGpu, openGpuGolden } from './gpu-golden.js';

/** Bound on a logit. Measured on SwiftShader: 9e-6 at most. */
const TOLERANCE = 2e-4;
/** Bound on a row's distance from the block kernel, which rounds activations, relative to its size. Measured: 1.0 to 2.9 %. */
const BLOCK_KERNEL = 0.05;

/** A projection of heads and of a Conv1D; adapters of pairs, of gains, of the head, of biases. */
const MODELS: Readonly<Record<string, readonly string[]>> = {
  qwen3: ['all-r8', 'dora', 'lm-head-r1'],
  gpt2: ['all-r8', 'bias-lora-only'],
};

/** A model's weight as floats, rounded. */
async function rounded({ spec, checkpoint }: ModelFolder, bits: 4 | 8): Promise<Map<string, Float32Array>> {
  const changed = new Map<string, Float32Array>();
  for (const group of allGroups(spec)) {
    const tensors = await groupWeights(checkpoint, group, { half: false, bits });
    const q = tensors.get(weightInputs.weight(group))!;
    const scales = tensors.get(weightInputs.scales(group))!.data;
    const own = (q.dims[2]! / 32) * 8;
    const blocks = q.dims[1]!;
    let row = 0;
    for (const { weight, inFeatures, outFeatures, conv1d } of group.linears) {
      const values = new Float32Array(inFeatures * outFeatures);
      for (let o = 0; o < outFeatures; o += 1) {
        for (let i = 0; i < inFeatures; i += 1) {
          const block = (row + o) * blocks + Math.floor(i / 32);
          const at = block * 32 + (i % 32);
          const level = own === 8 ? q.data[at]! : (q.data[at >> 1]! >> ((at & 1) * 4)) & 15;
          values[conv1d ? i * outFeatures + o : o * inFeatures + i] = (level - 2 ** (own - 1)) * scales[block]!;
        }
      }
      changed.set(weight, values);
      row += outFeatures;
    }
  }
  return changed;
}

/** A runner on the processor. */
async function openHost(folder: ModelFolder, dtype: 'fp32' | 'int8', table: EmbeddingTable): Promise<StepRunner> {
  const factory = await SessionFactory.create(folder, dtype);
  const sessions = [await factory.open('base', 1), await factory.open('lora', 1), await factory.open('full', 1)];
  return new StepRunner(folder.spec, table, sessions);
}

/** The folder as if its file held 8-bit blocks: then the processor takes its block kernel. */
async function inBlocks(folder: ModelFolder): Promise<ModelFolder> {
  const { spec, checkpoint } = folder;
  const { bytes, entry } = await quantise(
    allLinears(spec).map(({ weight, inFeatures, outFeatures, conv1d = false }) => ({
      ...{ tensor: weight, inFeatures, outFeatures, transposed: conv1d },
      read: () => checkpoint.readFloat32(weight),
    })),
  );
  const readBlocks = async (name: string) => {
    const { weights, scales } = entry(name);
    return {
      weights: bytes.subarray(weights.offset, weights.offset + weights.length),
      scales: new Float32Array(bytes.buffer, scales.offset, scales.length / 4),
    };
  };
  return { ...folder, checkpoint: { ...checkpoint, readBlocks } };
}

for (const [name, adapterNames] of Object.entries(MODELS)) {
  for (const bits of name === 'gpt2' || everything ? ([8, 4] as const) : ([8] as const)) {
    test(`${name} with ${bits} bits a weight: rows of a mixed batch are as on the processor`, {
      skip: noGpu,
    }, async () => {
      const device = await openGpuGolden(name, { precision: { half: false, bits } });
      const { folder, golden } = device.model;
      const adapters: BoundAdapter[] = [];
      for (const adapter of adapterNames) adapters.push(await device.model.adapter(golden.adapters[adapter]!.path));
      for (const adapter of adapters) await device.runner.load(adapter);
      const prompts = golden.prompts.map(({ token_ids }) => token_ids).filter((ids) => ids.length > 2);
      const rows = [BASE_ROW, ...adapters.map((adapter) => combine([{ adapter, weight: 1 }]))].map((adapter, i) => ({
        ids: prompts[i % prompts.length]!,
        adapter,
      }));
      const computed = await decodeTogether(device.runner, rows);
      const table = await EmbeddingTable.read(folder);
      const checkpoint = { ...folder.checkpoint, changed: await rounded(folder, bits), mapped: () => undefined };
      const exact = await decodeTogether(await openHost({ ...folder, checkpoint }, 'fp32', table), rows);
      for (const [row, logits] of computed.entries()) {
        const error = logits.reduce((most, value, i) => Math.max(most, Math.abs(value - exact[row]![i]!)), 0);
        assert.ok(error <= TOLERANCE, `row ${row}: ${error}`);
      }
      if (bits === 8) {
        const blocks = await decodeTogether(await openHost(await inBlocks(folder), 'int8', table), rows);
        for (const [row, logits] of computed.entries()) {
          const relative = distance(logits, blocks[row]!);
          assert.ok(relative > 0 && relative <= BLOCK_KERNEL, `row ${row}: ${relative}`);
        }
      }
      await device.close();
    });
  }
}

describe('products with rounded weights', { skip: noGpu }, () => {
  // Wide enough, and of a width, that the provider would multiply bytes if it were allowed to round activations.
  const group = groupOf([{ module: 'm', weight: 'm', inFeatures: 256, outFeatures: 64 }]);
  const wave = (length: number, step: number) =>
    Float32Array.from({ length }, (_, i) => Math.sin(i * step) * (1 + (i % 5)));

  for (const bits of [8, 4] as const) {
    test(`activations stay floats beside ${bits} bits a weight`, async () => {
      const weights = wave(256 * 64, 1.7);
      const x = wave(40 * 256, 0.37);
      const tensors = await groupWeights({ readFloat32: async () => weights }, group, { half: false, bits });
      const outputs: Float32Array[] = [];
      // A weight that is an input is widened by the processor's provider, and activations are not rounded there.
      for (const provider of ['webgpu', 'cpu'] as const) {
        const device = new GpuDevice(provider);
        const graph = new GraphBuilder();
        const y = emitProduct(graph, graph.input('x', 'float32', ['rows', 256]), group, undefined, {
          half: false,
          bits,
        });
        graph.output(y, 'float32', ['rows', 64]);
        const session = await device.session(graph.finish('product'), false);
        const feeds: Record<string, ort.Tensor> = { x: new ort.Tensor('float32', x, [40, 256]) };
        for (const [input, { type, data, dims }] of tensors)
          feeds[input] = new ort.Tensor(type as 'float32', data as Float32Array, dims);
        const [output] = Object.values(await session.run(feeds));
        outputs.push(output!.data as Float32Array);
        await device.close();
      }
      const relative = distance(outputs[0]!, outputs[1]!);
      // Rounding them to 8 bits costs 6e-3.
      assert.ok(relative < 1e-5, String(relative));
    });
  }
});

/** |a - b| / |b| */
function distance(a: Float32Array, b: Float32Array): number {
  const size = b.reduce((sum, value) => sum + value ** 2, 0);
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0) / size);
}
