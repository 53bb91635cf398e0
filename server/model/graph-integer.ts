/**
 * Linears as exact integer products. Weights are bytes with one scale a column; x becomes unsigned bytes with one
 * scale a row, after a rotation that spreads large values (rotation.ts), which the weights had when they were converted.
 * Sums are exact int32 and no scale is shared between rows, so a row's result cannot depend on the rows beside it.
 */
import { type ColumnStore, matrixName, type WeightBytes, weightType, weightZero } from './column-store.js';
import type { LinearKernel } from './graph-linears.js';
import { GraphBuilder, type Value } from './onnx-graph.js';
import { cosines, hadamard, rotationShape } from './rotation.js';
import type { LinearSpec } from './spec.js';

/** Unsigned bytes stand for -127..127 around this. */
const ZERO_POINT = 128;
const LEVEL = 127;

/** An input as bytes. */
interface RoundedRows {
  /** uint8, shaped as x; a step is worth 1/127 of the row's largest value. */
  readonly bytes: Value;
  /** [rows, 1] (grouped: [groups, rows per group, 1]): each row's largest magnitude after rotation. */
  readonly most: Value;
}

/** 8-bit weights by columns. */
export function integerKernel(store: ColumnStore): LinearKernel {
  const rounded = new WeakMap<GraphBuilder, Map<Value, RoundedRows>>();
  return {
    emit(graph, { x, grouped }, linears, biases) {
      let known = rounded.get(graph);
      if (known === undefined) {
        known = new Map();
        rounded.set(graph, known);
      }
      const inFeatures = linears[0]!.inFeatures;
      const { bytes, most } = known.get(x) ?? roundRows(graph, rotate(graph, x, inFeatures, grouped ? 2 : 1));
      known.set(x, { bytes, most });
      // A row of zeros has undefined bytes; they are multiplied by 0 here.
      const y = graph.op('Mul', [product(graph, bytes, storedMatrix(graph, store, linears)), most]);
      const parts =
        linears.length === 1
          ? [y]
          : graph.multi('Split', [y, graph.ints(linears.map(({ outFeatures }) => outFeatures))], linears.length, {
              axis: -1,
            });
      return parts.map((part, i) => (biases[i] === undefined ? part : graph.op('Add', [part, biases[i]])));
    },
  };
}

/** A matrix of weights as a graph has it. */
export interface Matrix {
  /** int8 or uint8 [in, columns] */
  readonly weight: Value;
  /** float32 [columns] */
  readonly scale: Value;
  readonly bytesAre: WeightBytes;
}

/** The linears' matrix, declared where the graph does not have it yet. */
function storedMatrix(graph: GraphBuilder, store: ColumnStore, linears: readonly LinearSpec[]): Matrix {
  const weight = matrixName(linears);
  const scale = `${weight}.scales`;
  const { location, bytesAre } = store;
  if (!graph.declared(weight)) {
    const { weights, scales, columns } = store.group(linears);
    graph.external(weight, weightType(bytesAre), [linears[0]!.inFeatures, columns], { location, ...weights });
    graph.external(scale, 'float32', [columns], { location, ...scales });
  }
  return { weight, scale, bytesAre };
}

/** The product of bytes [..., in] with a matrix, in units of 1/127 of each row's largest value. */
function product(graph: GraphBuilder, bytes: Value, matrix: Matrix): Value {
  return byteProduct(graph, bytes, { step: 1 / LEVEL, zero: ZERO_POINT }, matrix);
}

/** The product of unsigned bytes [..., in], of which `zero` stands for 0 and each is worth `step`, with a matrix. */
export function byteProduct(
  graph: GraphBuilder,
  bytes: Value,
  { step, zero }: { readonly step: number; readonly zero: number },
  { weight, scale, bytesAre }: Matrix,
): Value {
  const inputs = [bytes, weight, graph.scalar(step), scale, graph.byte(zero)];
  const own = weightZero(bytesAre);
  return graph.contrib('MatMulIntegerToFloat', own === 0 ? inputs : [...inputs, graph.byte(own)]);
}

/** A model of nothing but the products, whose session packs the same matrices as a decoder's. */
export function productsAlone(store: ColumnStore, groups: readonly (readonly LinearSpec[])[]): Uint8Array {
  const graph = new GraphBuilder();
  for (const [index, linears] of groups.entries()) {
    if (graph.declared(matrixName(linears))) continue;
    const bytes = graph.input(`bytes.${index}`, 'uint8', ['rows', linears[0]!.inFeatures]);
    const y = product(graph, bytes, storedMatrix(graph, store, linears));
    graph.output(y, 'float32', ['rows', store.group(linears).columns]);
  }
  return graph.finish('products');
}

/** x [...leading axes, in] in the basis of the stored weights, in the same shape. */
function rotate(graph: GraphBuilder, x: Value, inFeatures: number, leading: number): Value {
  const { block, blocks, mixed } = rotationShape(inFeatures);
  const kept = new Array<number>(leading).fill(0); // Reshape's 0: as it was
  const constant = (name: string, n: number, make: (n: number) => Float32Array) =>
    graph.declared(name) ? name : graph.constant(name, make(n), [n, n]);
  let y = graph.op('Reshape', [x, graph.ints([...kept, blocks, block])]);
  y = graph.op('MatMul', [y, constant(`rotation.${block}`, block, hadamard)]);
  if (mixed) y = graph.op('MatMul', [constant(`mixing.${blocks}`, blocks, cosines), y]);
  return graph.op('Reshape', [y, graph.ints([...kept, inFeatures])]);
}

/** Each row in steps of 1/127 of its largest magnitude. */
function roundRows(graph: GraphBuilder, x: Value): RoundedRows {
  const most = graph.op('ReduceMax', [graph.op('Abs', [x]), graph.ints([-1])], { keepdims: 1 });
  const unit = graph.op('Div', [x, most]);
  return { bytes: graph.op('QuantizeLinear', [unit, graph.scalar(1 / LEVEL), graph.byte(ZERO_POINT)]), most };
}
