/**
 * The large weights of a decoder as a GPU takes them: one matrix a linear group, as floats or as blocks of 32. They are
 * inputs of every graph rather than initialisers, so that all graph variants share one copy in the device's memory.
 */
import type { Checkpoint } from '../checkpoint.js';
import type { GraphBuilder, Value } from '../onnx-graph.js';
import type { LinearSpec } from '../spec.js';
import { elementType, type GpuPrecision, toHalf } from './gpu-precision.js';
import type { LinearGroup } from './linear-groups.js';

/** Values per block of a quantised weight: the size that all of the provider's fast kernels take. */
const BLOCK = 32;

/** A tensor to put on the device. */
export interface GpuTensorData {
  readonly type: 'float32' | 'float16' | 'uint8';
  readonly dims: readonly number[];
  readonly data: Float32Array | Uint16Array | Uint8Array;
}

/** Graph inputs of a group's weight. */
export const weightInputs = {
  weight: (group: LinearGroup) => `w.${group.key}`,
  scales: (group: LinearGroup) => `w.scales.${group.key}`,
} as const;

/** Emits y [rows, out] = x W^T (+ bias) for x [rows, in]; declares the weight as an input. */
export function emitProduct(
  graph: GraphBuilder,
  x: Value,
  group: LinearGroup,
  bias: Value | undefined,
  precision: GpuPrecision,
): Value {
  const { inFeatures, outFeatures } = group;
  const type = elementType(precision);
  if (precision.bits === undefined) {
    const weight = graph.input(weightInputs.weight(group), type, [outFeatures, inFeatures]);
    return graph.op('Gemm', bias === undefined ? [x, weight] : [x, weight, bias], { transB: 1 });
  }
  const { bits } = precision;
  const blocks = Math.ceil(inFeatures / BLOCK);
  const weight = graph.input(weightInputs.weight(group), 'uint8', [outFeatures, blocks, (BLOCK * bits) / 8]);
  const scales = graph.input(weightInputs.scales(group), type, [outFeatures * blocks]);
  const inputs = bias === undefined ? [x, weight, scales] : [x, weight, scales, '', '', bias];
  const attributes = { K: inFeatures, N: outFeatures, bits, block_size: BLOCK, accuracy_level: 4 };
  return graph.contrib('MatMulNBits', inputs, attributes);
}

/** Reads a group's weight and prepares its tensors, by the names of the graph inputs. */
export async function groupWeights(
  checkpoint: Pick<Checkpoint, 'readFloat32'>,
  group: LinearGroup,
  precision: GpuPrecision,
): Promise<Map<string, GpuTensorData>> {
  const { inFeatures, outFeatures } = group;
  const values = new Float32Array(outFeatures * inFeatures);
  let row = 0;
  for (const linear of group.linears) {
    values.set(await rows(checkpoint, linear), row * inFeatures);
    row += linear.outFeatures;
  }
  const type = elementType(precision);
  const floats = (data: Float32Array, dims: readonly number[]): GpuTensorData => ({
    type,
    dims,
    data: precision.half ? toHalf(data, group.key) : data,
  });
  if (precision.bits === undefined) {
    return new Map([[weightInputs.weight(group), floats(values, [outFeatures, inFeatures])]]);
  }
  const { bits } = precision;
  const blocks = Math.ceil(inFeatures / BLOCK);
  const { weights, scales } = quantiseBlocks(values, inFeatures, bits);
  return new Map([
    [
      weightInputs.weight(group),
      { type: 'uint8', dims: [outFeatures, blocks, (BLOCK * bits) / 8], data: weights } as GpuTensorData,
    ],
    [weightInputs.scales(group), floats(scales, [outFeatures * blocks])],
  ]);
}

/** A linear's weight as [out, in] float32. */
async function rows(checkpoint: Pick<Checkpoint, 'readFloat32'>, linear: LinearSpec): Promise<Float32Array> {
  const { weight, inFeatures, outFeatures, conv1d } = linear;
  if (conv1d !== true) return checkpoint.readFloat32(weight, [outFeatures, inFeatures]);
  const stored = await checkpoint.readFloat32(weight, [inFeatures, outFeatures]);
  const turned = new Float32Array(stored.length);
  for (let i = 0; i < inFeatures; i += 1) {
    for (let o = 0; o < outFeatures; o += 1) turned[o * inFeatures + i] = stored[i * outFeatures + o]!;
  }
  return turned;
}

/**
 * Rows of `inFeatures` floats in blocks: scale = -m / 2^(bits-1) with m the block's value of largest magnitude, and
 * q = round(w / scale) + 2^(bits-1). Elements of 4 bits lie two in a byte, the first one low.
 */
export function quantiseBlocks(
  values: Float32Array,
  inFeatures: number,
  bits: 4 | 8,
): { weights: Uint8Array; scales: Float32Array } {
  const blocks = Math.ceil(inFeatures / BLOCK);
  const outFeatures = values.length / inFeatures;
  const zero = 2 ** (bits - 1);
  const perByte = 8 / bits;
  const weights = new Uint8Array((outFeatures * blocks * BLOCK) / perByte);
  const scales = new Float32Array(outFeatures * blocks);
  for (let block = 0; block < outFeatures * blocks; block += 1) {
    const row = Math.floor(block / blocks);
    const start = row * inFeatures + (block % blocks) * BLOCK;
    const count = Math.min(BLOCK, (row + 1) * inFeatures - start);
    let largest = 0;
    for (let i = start; i < start + count; i += 1) {
      if (Math.abs(values[i]!) > Math.abs(largest)) largest = values[i]!;
    }
    const scale = Math.fround(-largest / zero);
    scales[block] = scale;
    for (let i = 0; i < BLOCK; i += 1) {
      const level = i < count && scale !== 0 ? Math.round(values[start + i]! / scale) + zero : zero;
      const q = Math.max(0, Math.min(2 * zero - 1, level));
      const at = block * BLOCK + i;
      if (bits === 8) weights[at] = q;
      else weights[at >> 1]! |= q << ((at & 1) * 4);
    }
  }
  return { weights, scales };
}
