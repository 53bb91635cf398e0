/**
 * Linears as graph nodes, by kernel: `fp32` multiplies with the checkpoint's own bytes (mapped, widened to float32 when
 * the session is made), `int8` by blocks with 8-bit weights quantised beforehand. See graph-integer.ts for whole columns.
 */
import { AppError } from '../errors.js';
import type { Checkpoint } from './checkpoint.js';
import type { GraphBuilder, Value } from './onnx-graph.js';
import type { QuantisedStore } from './quantise.js';
import type { LinearSpec } from './spec.js';

/** A linear's input. */
export interface LinearInput {
  /** [rows, in]; [groups, rows per group, in] where `grouped` */
  readonly x: Value;
  readonly grouped: boolean;
}

/** Emits y = x W^T (+ bias) for all linears that read the same x. */
export interface LinearKernel {
  /**
   * @param biases [out] each, as values of the graph; undefined = none
   * @returns one [rows, out] per linear, or [groups, rows per group, out]
   */
  emit(
    graph: GraphBuilder,
    input: LinearInput,
    linears: readonly LinearSpec[],
    biases: readonly (Value | undefined)[],
  ): Value[];
}

/** float32 products. Weights are named by their place in a file where they can be mapped, else by {@link memoryFile}. */
export function fp32Kernel(checkpoint: Checkpoint): LinearKernel {
  return {
    emit: (graph, { x, grouped }, linears, biases) =>
      linears.map((linear, i) => {
        const bias = biases[i];
        const shape = linear.conv1d ? [linear.inFeatures, linear.outFeatures] : [linear.outFeatures, linear.inFeatures];
        const weight = mappedWeight(graph, checkpoint, linear.weight, shape);
        const transB = linear.conv1d ? 0 : 1;
        // Gemm adds the bias on its way, but takes two axes only.
        if (!grouped) return graph.op('Gemm', bias === undefined ? [x, weight] : [x, weight, bias], { transB });
        const product = graph.contrib('FusedMatMul', [x, weight], { transB });
        return bias === undefined ? product : graph.op('Add', [product, bias]);
      }),
  };
}

/** 8-bit blocks of 32 with one float32 scale each; activations are quantised per block of each row inside the kernel. */
export function blockKernel(store: QuantisedStore): LinearKernel {
  return {
    emit: (graph, { x }, linears, biases) =>
      linears.map((linear, i) => {
        const bias = biases[i];
        const entry = store.entry(linear.weight);
        const blocks = Math.ceil(linear.inFeatures / store.blockSize);
        const key = `q8.${linear.weight}`;
        const once = (name: string, make: () => Value) => (graph.declared(name) ? name : make());
        const weight = once(key, () =>
          graph.external(key, 'uint8', [linear.outFeatures, blocks, store.blockSize], {
            location: store.location,
            ...entry.weights,
          }),
        );
        const scales = once(`${key}.scales`, () =>
          graph.external(`${key}.scales`, 'float32', [linear.outFeatures * blocks], {
            location: store.location,
            ...entry.scales,
          }),
        );
        const inputs = bias === undefined ? [x, weight, scales] : [x, weight, scales, '', '', bias];
        return graph.contrib('MatMulNBits', inputs, {
          K: linear.inFeatures,
          N: linear.outFeatures,
          bits: 8,
          block_size: store.blockSize,
          accuracy_level: 4,
        });
      }),
  };
}

/** Name under which a graph refers to a tensor that is held in memory. */
export const memoryFile = (tensor: string): string => `memory/${tensor}`;

/** A float32 view of a weight: the initialiser itself, or a Cast that onnxruntime folds at load. */
function mappedWeight(graph: GraphBuilder, checkpoint: Checkpoint, name: string, shape: readonly number[]): Value {
  if (graph.declared(`${name}.f32`)) return `${name}.f32`;
  if (graph.declared(name)) return name;
  const mapped = checkpoint.mapped(name);
  if (mapped === undefined) {
    const length = shape.reduce((product, size) => product * size, 4);
    return graph.external(name, 'float32', shape, { location: memoryFile(name), offset: 0, length });
  }
  checkpoint.expect(name, shape);
  const { dtype, ...place } = mapped;
  switch (dtype) {
    case 'F32':
      return graph.external(name, 'float32', shape, place);
    case 'F16':
      graph.external(name, 'float16', shape, place);
      return graph.named(`${name}.f32`, 'Cast', [name], { to: 1 });
    case 'BF16':
      graph.external(name, 'bfloat16', shape, place);
      return graph.named(`${name}.f32`, 'Cast', [name], { to: 1 });
    default:
      throw new AppError('MODEL_INVALID', `tensor ${name} is stored as ${dtype}; F32, F16 or BF16 would be right`);
  }
}
