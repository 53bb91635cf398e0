/**
 * Linears as exact integer products. x becomes two levels of unsigned bytes, x = s (q1 + q2 / 254), about 15 bits, so
 * that only the weights' rounding is left to notice; the weights are signed bytes with one scale a column. Sums are exact
 * int32, and no scale is shared between rows, so a row's result cannot depend on the rows beside it.
 */
import type { ColumnStore } from './column-store.js';
import type { LinearKernel } from './graph-linears.js';
import { float, type GraphBuilder, type Value } from './onnx-graph.js';

/** Unsigned bytes stand for -127..127 around this. */
const ZERO_POINT = 128;
const LEVEL = 127;
/** The second level's step is this much finer: half a step of the first is 127 steps of the second. */
const FINER = 254;
/** Weights of more bytes than this lie in no core's own cache when the second level wants them. */
const CACHED_BYTES = 4 << 20;

/** An input in two levels. */
interface TwoLevels {
  /** uint8 [rows, in] */
  readonly coarse: Value;
  readonly fine: Value;
  /** float32 scalars: what one step of each level is worth, in units of x * inverse. */
  readonly coarseStep: Value;
  readonly fineStep: Value;
  /** [rows, 1]: what the product must be divided by; undefined = nothing. */
  readonly inverse: Value | undefined;
}

/** 8-bit weights by columns. */
export function integerKernel(store: ColumnStore): LinearKernel {
  const levels = new WeakMap<GraphBuilder, Map<Value, TwoLevels>>();
  return {
    emit(graph, { x, grouped, bound }, linears, biases) {
      let known = levels.get(graph);
      if (known === undefined) {
        known = new Map();
        levels.set(graph, known);
      }
      const inFeatures = linears[0]!.inFeatures;
      const input = known.get(x) ?? twoLevels(graph, x, inFeatures, bound);
      known.set(x, input);
      const { weights, scales, columns } = store.group(linears);
      const [weight, scale] = [`s8.${linears[0]!.weight}`, `s8.${linears[0]!.weight}.scales`];
      if (!graph.declared(weight)) {
        const { location } = store;
        graph.external(weight, 'int8', [inFeatures, columns], { location, ...weights });
        graph.external(scale, 'float32', [columns], { location, ...scales });
      }
      const zero = graph.byte(ZERO_POINT);
      const product = (levelOfX: Value, step: Value) =>
        graph.contrib('MatMulIntegerToFloat', [levelOfX, weight, step, scale, zero]);
      let y =
        inFeatures * columns > CACHED_BYTES && !grouped
          ? sumOfStacked(graph, product(stackedLevels(graph, input), input.coarseStep), columns)
          : graph.op('Add', [product(input.coarse, input.coarseStep), product(input.fine, input.fineStep)]);
      if (input.inverse !== undefined) y = graph.op('Div', [y, input.inverse]);
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

/** Both levels as rows of one input [2 * rows, in], so that large weights are read once. */
function stackedLevels(graph: GraphBuilder, { coarse, fine }: TwoLevels): Value {
  return graph.op('Concat', [coarse, fine], { axis: 0 });
}

/** Of the products [2 * rows, columns] of both levels, the second one in steps of the first: their sum [rows, columns]. */
function sumOfStacked(graph: GraphBuilder, products: Value, columns: number): Value {
  const steps = 'level.steps';
  if (!graph.declared(steps)) graph.constant(steps, Float32Array.of(1, 1 / FINER), [1, 2]);
  // Halves of one tensor as the rows of a product: taking them apart would copy them.
  const halves = graph.op('Reshape', [products, graph.ints([2, -1])]);
  return graph.op('Reshape', [graph.op('MatMul', [steps, halves]), graph.ints([-1, columns])]);
}

/**
 * Where a bound on x is known (the output of a norm), the steps are constants. Elsewhere each row is brought to a root
 * mean square of 1 first, so that no value exceeds sqrt(in); the product is scaled back.
 */
function twoLevels(graph: GraphBuilder, x: Value, inFeatures: number, bound: number | undefined): TwoLevels {
  const zero = graph.byte(ZERO_POINT);
  let source = x;
  let inverse: Value | undefined;
  if (bound === undefined) {
    const ones = `ones.${inFeatures}`;
    if (!graph.declared(ones)) graph.constant(ones, new Float32Array(inFeatures).fill(1), [inFeatures]);
    source = graph.fresh('unit');
    inverse = graph.fresh('inverse');
    // The epsilon only keeps a row of zeros from becoming NaN.
    graph.into('SimplifiedLayerNormalization', [x, ones], [source, inverse], { axis: -1, epsilon: float(1e-20) });
  }
  const step = (bound ?? Math.sqrt(inFeatures)) / LEVEL;
  const coarseStep = graph.scalar(step);
  const fineStep = graph.scalar(step / FINER);
  const coarse = graph.op('QuantizeLinear', [source, coarseStep, zero]);
  const rest = graph.op('Sub', [source, graph.op('DequantizeLinear', [coarse, coarseStep, zero])]);
  return { coarse, fine: graph.op('QuantizeLinear', [rest, fineStep, zero]), coarseStep, fineStep, inverse };
}
