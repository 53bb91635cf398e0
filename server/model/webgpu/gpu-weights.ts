/**
 * The large weights of a decoder as a GPU takes them: one matrix a linear group, as floats or as blocks of 32. They are
 * inputs of every graph rather than initialisers, so that all graph variants share one copy in the device's memory.
 */
import type { Checkpoint } from '../checkpoint.js';
import type { GraphBuilder, Value } from '../onnx-graph.js';
import { type Blocks8, quantise } from '../quantise.js';
import type { LinearSpec } from '../spec.js';
import { BLOCK, fourBitBlocks } from './four-bit-blocks.js';
import { elementType, type GpuPrecision, toHalf } from './gpu-precision.js';
import type { LinearGroup } from './linear-groups.js';

/** MatMulNBits' `accuracy_level` by which activations stay floats. */
const FLOAT_ACTIVATIONS = 1;

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
  const bits = bitsOf(group, precision);
  if (bits === undefined) {
    const weight = graph.input(weightInputs.weight(group), type, [outFeatures, inFeatures]);
    return graph.op('Gemm', bias === undefined ? [x, weight] : [x, weight, bias], { transB: 1 });
  }
  const blocks = Math.ceil(inFeatures / BLOCK);
  const weight = graph.input(weightInputs.weight(group), 'uint8', [outFeatures, blocks, (BLOCK * bits) / 8]);
  const scales = graph.input(weightInputs.scales(group), type, [outFeatures * blocks]);
  const inputs = bias === undefined ? [x, weight, scales] : [x, weight, scales, '', '', bias];
  // Level 4 would round activations to 8 bits in blocks of 128 where the device multiplies bytes.
  const attributes = { K: inFeatures, N: outFeatures, bits, block_size: BLOCK, accuracy_level: FLOAT_ACTIVATIONS };
  return graph.contrib('MatMulNBits', inputs, attributes);
}

/** Reads a group's weight and prepares its tensors, by the names of the graph inputs. */
export async function groupWeights(
  checkpoint: Pick<Checkpoint, 'readFloat32' | 'readBlocks'>,
  group: LinearGroup,
  precision: GpuPrecision,
): Promise<Map<string, GpuTensorData>> {
  const { key, inFeatures, outFeatures } = group;
  const { half } = precision;
  const bits = bitsOf(group, precision);
  const floats = (data: Float32Array, dims: readonly number[]): GpuTensorData => ({
    type: elementType(precision),
    dims,
    data: half ? toHalf(data, key) : data,
  });
  if (bits === undefined) {
    const values = await groupRows(checkpoint, group);
    return new Map([[weightInputs.weight(group), floats(values, [outFeatures, inFeatures])]]);
  }
  const blocks = Math.ceil(inFeatures / BLOCK);
  const { weights, scales } =
    bits === 8
      ? await eightBitBlocks(checkpoint, group)
      : fourBitBlocks(await groupRows(checkpoint, group), inFeatures);
  return new Map([
    [weightInputs.weight(group), { type: 'uint8', dims: [outFeatures, blocks, (BLOCK * bits) / 8], data: weights }],
    [weightInputs.scales(group), floats(scales, [outFeatures * blocks])],
  ]);
}

/** Bits of a group's weights; undefined = floats. */
const bitsOf = ({ isHead }: LinearGroup, { bits }: GpuPrecision): GpuPrecision['bits'] =>
  isHead === true && bits === 4 ? 8 : bits;

/** The blocks that the processor's block kernel takes: those of the file where the weight is stored so. */
async function eightBitBlocks(
  checkpoint: Pick<Checkpoint, 'readFloat32' | 'readBlocks'>,
  { linears, inFeatures, outFeatures }: LinearGroup,
): Promise<Blocks8> {
  const { bytes, entry } = await quantise(
    linears.map((linear) => ({
      tensor: linear.weight,
      outFeatures: linear.outFeatures,
      inFeatures,
      transposed: linear.conv1d ?? false,
      read: () => checkpoint.readFloat32(linear.weight, storedShape(linear)),
      readBlocks: async () => checkpoint.readBlocks?.(linear.weight),
    })),
  );
  const blocks = outFeatures * Math.ceil(inFeatures / BLOCK);
  const joined = { weights: new Uint8Array(blocks * BLOCK), scales: new Float32Array(blocks) };
  let at = 0;
  for (const { weight } of linears) {
    const { weights, scales } = entry(weight);
    const count = scales.length / 4;
    joined.weights.set(bytes.subarray(weights.offset, weights.offset + weights.length), at * BLOCK);
    joined.scales.set(new Float32Array(bytes.buffer, scales.offset, count), at);
    at += count;
  }
  return joined;
}

/** A group's weights below each other, [out, in] float32. */
async function groupRows(
  checkpoint: Pick<Checkpoint, 'readFloat32'>,
  { linears, inFeatures, outFeatures }: LinearGroup,
): Promise<Float32Array> {
  const values = new Float32Array(outFeatures * inFeatures);
  let row = 0;
  for (const linear of linears) {
    values.set(await rows(checkpoint, linear), row * inFeatures);
    row += linear.outFeatures;
  }
  return values;
}

const storedShape = ({ conv1d, inFeatures, outFeatures }: LinearSpec): [number, number] =>
  conv1d === true ? [inFeatures, outFeatures] : [outFeatures, inFeatures];

/** A linear's weight as [out, in] float32. */
async function rows(checkpoint: Pick<Checkpoint, 'readFloat32'>, linear: LinearSpec): Promise<Float32Array> {
  const { weight, inFeatures, outFeatures, conv1d } = linear;
  const stored = await checkpoint.readFloat32(weight, storedShape(linear));
  if (conv1d !== true) return stored;
  const turned = new Float32Array(stored.length);
  for (let i = 0; i < inFeatures; i += 1) {
    for (let o = 0; o < outFeatures; o += 1) turned[o * inFeatures + i] = stored[i * outFeatures + o]!;
  }
  return turned;
}
