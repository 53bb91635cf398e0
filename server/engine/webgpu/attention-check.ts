/**
 * Tries the provider's attention kernels on the device at hand before a model relies on them. They choose among shaders
 * by the number of new tokens and by what the device offers, and not every device computes all of them rightly: with
 * SwiftShader's subgroups of 4 lanes the shader for 32 or more new tokens gives wrong sums without an error.
 */
import * as ort from 'onnxruntime-node';
import { float, GraphBuilder, type Value } from '../../model/onnx-graph.js';
import type { DecoderSpec } from '../../model/spec.js';
import { elementType, type GpuPrecision } from '../../model/webgpu/gpu-precision.js';
import type { GpuDevice, GpuSession, GpuTensor } from './gpu-device.js';

/** What of the kernels can be used. */
export interface AttentionKernels {
  /** False: none; attention is made of primitive operators. */
  readonly usable: boolean;
  /** Most new tokens of a row in one run. */
  readonly maxTokens: number;
}

/** The most new tokens for which the provider takes its kernels for short blocks. */
const SHORT = 31;
/** Blocks of new tokens that follow each other in a row. */
const SHORT_BLOCKS = [20, SHORT, 1, 8];
const LONG_BLOCKS = [40, 1, 33];
const TOLERANCE = { float32: 1e-4, float16: 2e-2 } as const;

/** Runs blocks through the kernels with the model's heads and compares with the host's arithmetic. */
export async function checkAttention(
  device: GpuDevice,
  spec: Pick<DecoderSpec, 'queryHeads' | 'kvHeads' | 'headDim'>,
  precision: GpuPrecision,
): Promise<AttentionKernels> {
  if (spec.headDim % 8 !== 0) return { usable: false, maxTokens: Number.POSITIVE_INFINITY };
  const session = await device.session(attentionGraph(spec, precision), false);
  const right = (blocks: readonly number[]) => agrees(device, session, spec, precision, blocks);
  if (!(await right(SHORT_BLOCKS))) return { usable: false, maxTokens: Number.POSITIVE_INFINITY };
  return { usable: true, maxTokens: (await right(LONG_BLOCKS)) ? Number.POSITIVE_INFINITY : SHORT };
}

type Heads = Pick<DecoderSpec, 'queryHeads' | 'kvHeads' | 'headDim'>;

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

const SCALE = 0.3;

async function agrees(
  device: GpuDevice,
  session: GpuSession,
  heads: Heads,
  precision: GpuPrecision,
  blocks: readonly number[],
): Promise<boolean> {
  const { queryHeads, kvHeads, headDim } = heads;
  const capacity = blocks.reduce((sum, tokens) => sum + tokens, 0) + 7;
  const type = elementType(precision);
  const caches: GpuTensor[] = [];
  const history: { keys: Float32Array; values: Float32Array; count: number } = {
    keys: new Float32Array(capacity * kvHeads * headDim),
    values: new Float32Array(capacity * kvHeads * headDim),
    count: 0,
  };
  try {
    for (let side = 0; side < 2; side += 1) caches.push(await device.zeros(type, [1, kvHeads, capacity, headDim]));
    for (const tokens of blocks) {
      const past = history.count;
      const values = (width: number, shift: number) =>
        Float32Array.from({ length: tokens * width }, (_, i) => Math.sin((past * width + i) * 0.7 + shift));
      const q = values(queryHeads * headDim, 0);
      const k = values(kvHeads * headDim, 1);
      const v = values(kvHeads * headDim, 2);
      const tensor = (data: Float32Array) => new ort.Tensor('float32', data, [1, tokens, data.length / tokens]);
      const outputs = await session.run(
        {
          q: tensor(q),
          k: tensor(k),
          v: tensor(v),
          past_k: caches[0]!,
          past_v: caches[1]!,
          lengths: new ort.Tensor('int32', Int32Array.of(past + tokens - 1), [1]),
          total: new ort.Tensor('int32', Int32Array.of(past + tokens), [1]),
        },
        { [precision.half ? 'output' : 'attended']: null, keys: caches[0]!, values: caches[1]! },
      );
      for (const name of ['keys', 'values']) outputs[name]!.dispose();
      history.keys.set(k, past * kvHeads * headDim);
      history.values.set(v, past * kvHeads * headDim);
      history.count += tokens;
      const got = outputs[precision.half ? 'output' : 'attended']!.data as Float32Array;
      const wanted = attend(heads, q, history, past);
      if (!wanted.every((value, i) => Math.abs(value - got[i]!) <= TOLERANCE[type])) return false;
    }
    return true;
  } finally {
    for (const cache of caches) device.free(cache);
  }
}

/** What new tokens see, the i-th of them being at position `past + i`: [tokens, queryHeads * headDim]. */
function attend(
  { queryHeads, kvHeads, headDim }: Heads,
  queries: Float32Array,
  { keys, values }: { keys: Float32Array; values: Float32Array },
  past: number,
): Float64Array {
  const output = new Float64Array(queries.length);
  const tokens = queries.length / (queryHeads * headDim);
  for (let token = 0; token < tokens; token += 1) {
    for (let head = 0; head < queryHeads; head += 1) {
      const at = (token * queryHeads + head) * headDim;
      const kvHead = Math.floor(head / (queryHeads / kvHeads));
      const seen = past + token + 1;
      const weights = Float64Array.from({ length: seen }, (_, position) => {
        let score = 0;
        const key = (position * kvHeads + kvHead) * headDim;
        for (let d = 0; d < headDim; d += 1) score += queries[at + d]! * keys[key + d]!;
        return score * SCALE;
      });
      const most = Math.max(...weights);
      let sum = 0;
      for (let i = 0; i < seen; i += 1) {
        weights[i] = Math.exp(weights[i]! - most);
        sum += weights[i]!;
      }
      for (let position = 0; position < seen; position += 1) {
        const value = (position * kvHeads + kvHead) * headDim;
        for (let d = 0; d < headDim; d += 1) output[at + d]! += (weights[position]! / sum) * values[value + d]!;
      }
    }
  }
  return output;
}
