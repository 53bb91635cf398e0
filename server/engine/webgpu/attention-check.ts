/**
 * Tries the provider's attention kernels on the device at hand before a model relies on them. They choose among shaders
 * by the number of new tokens and by what the device offers, and not every device computes all of them rightly: with
 * subgroups of 4 lanes (SwiftShader) the shader for 32 or more new tokens gives wrong sums without an error.
 */

import { GraphBuilder, type Value } from '../../model/onnx-graph.js';
import { float } from '../../model/onnx-messages.js';
import { elementType, type GpuPrecision } from '../../model/webgpu/gpu-precision.js';
import * as ort from '../ort.js';
import { agrees, type Heads, mostTokens, positionsOf, SCALE, type TrialBlock } from './attention-trial.js';
import type { GpuDevice, GpuSession, GpuTensor } from './gpu-device.js';

/**
 * Runs blocks through the kernels with the model's heads and compares with the host's arithmetic.
 * @returns most new tokens of a row in one run; 0 = the kernels are of no use
 */
export async function checkAttention(device: GpuDevice, heads: Heads, precision: GpuPrecision): Promise<number> {
  if (heads.headDim % 8 !== 0) return 0;
  const session = await device.session(attentionGraph(heads, precision), false);
  return mostTokens((blocks) => computes(device, session, heads, precision, blocks));
}

function attentionGraph({ queryHeads, kvHeads, headDim }: Heads, precision: GpuPrecision): Uint8Array {
  const graph = new GraphBuilder();
  const type = elementType(precision);
  const cast = (x: Value, to: number) => (precision.half ? graph.op('Cast', [x], { to }) : x);
  const fresh = (name: string, heads: number) => cast(graph.input(name, 'float32', [1, 'tokens', heads * headDim]), 10);
  const cache = ['slots', kvHeads, 'capacity', headDim];
  const inputs = [
    fresh('q', queryHeads),
    fresh('k', kvHeads),
    fresh('v', kvHeads),
    graph.input('past_k', type, cache),
    graph.input('past_v', type, cache),
    graph.input('lengths', 'int32', [1]),
    graph.input('total', 'int32', [1]),
  ];
  const attributes = { num_heads: queryHeads, kv_num_heads: kvHeads, scale: float(SCALE) };
  graph.into('GroupQueryAttention', inputs, ['attended', 'keys', 'values'], attributes, 'com.microsoft');
  const output = precision.half ? graph.named('output', 'Cast', ['attended'], { to: 1 }) : 'attended';
  graph.output(output, 'float32', [1, 'tokens', queryHeads * headDim]);
  graph.output('keys', type, cache);
  graph.output('values', type, cache);
  return graph.finish('attention-check');
}

async function computes(
  device: GpuDevice,
  session: GpuSession,
  heads: Heads,
  precision: GpuPrecision,
  blocks: readonly number[],
): Promise<boolean> {
  const type = elementType(precision);
  const output = precision.half ? 'output' : 'attended';
  const dims = [1, heads.kvHeads, positionsOf(blocks) + 7, heads.headDim];
  const caches: GpuTensor[] = [];
  try {
    for (let side = 0; side < 2; side += 1) caches.push(await device.zeros(type, dims));
    return await agrees(heads, type, blocks, undefined, async ({ past, tokens, queries, keys, values }: TrialBlock) => {
      const tensor = (data: Float32Array) => new ort.Tensor('float32', data, [1, tokens, data.length / tokens]);
      const outputs = await session.run(
        {
          q: tensor(queries),
          k: tensor(keys),
          v: tensor(values),
          past_k: caches[0]!,
          past_v: caches[1]!,
          lengths: new ort.Tensor('int32', Int32Array.of(past + tokens - 1), [1]),
          total: new ort.Tensor('int32', Int32Array.of(past + tokens), [1]),
        },
        { [output]: null, keys: caches[0]!, values: caches[1]! },
      );
      for (const name of ['keys', 'values']) outputs[name]!.dispose();
      return outputs[output]!.data as Float32Array;
    });
  } finally {
    for (const cache of caches) device.free(cache);
  }
}
