/**
 * Where adapters enter the GPU's graph. Per linear group there is one low-rank pair for all adapters of a step, their
 * ranks side by side: y = base + (where(mine, x A^T, 0) * weights) B. `mine` says which ranks are the row's own. The
 * choice is made by selection and not by a factor of zero, since a foreign adapter may overflow, and infinity times zero
 * is not zero. That is four nodes over the base; a step without adapters runs a graph without them.
 *
 * - `base`: no adapter inputs.
 * - `lora`: the pair.
 * - `full`: also a gain and a bias per row (DoRA, replaced biases), and replaceable norm weights.
 */
import type { GraphVariant } from '../graph-sites.js';
import type { GraphBuilder, Value } from '../onnx-graph.js';
import type { NormSpec } from '../spec.js';
import { elementType, type GpuPrecision } from './gpu-precision.js';
import { emitProduct } from './gpu-weights.js';
import type { LinearGroup } from './linear-groups.js';

/** Graph inputs of a linear group's site, and of a norm. `groups` is 1 (the same for all rows) or the number of rows. */
export const gpuInputs = {
  /** [ranks, in]: A of all adapters and linears of the group, below each other. */
  a: (key: string) => `a.${key}`,
  /** [ranks, out]: B, zero outside the columns of the linear that a rank belongs to. */
  b: (key: string) => `b.${key}`,
  /** bool [groups, ranks]: true where the rank is the row's own. */
  mine: (key: string) => `mine.${key}`,
  /** [groups, ranks]: weight of the adapter in the row's selection. */
  weights: (key: string) => `weights.${key}`,
  /** [groups, out] each, or [1, 1] where all are alike. */
  gain: (key: string) => `gain.${key}`,
  bias: (key: string) => `bias.${key}`,
  /** [groups, width] each. */
  norm: (module: string) => `norm.${module}`,
  normBias: (module: string) => `normbias.${module}`,
} as const;

/** A norm whose weights are inputs, and what the base has there. */
export interface GpuNorm {
  readonly norm: NormSpec;
  readonly weight: Float32Array;
  readonly bias: Float32Array | undefined;
}

/** Emits products and norms with the adapter inputs of one variant, and remembers which it used. */
export class GpuSites {
  readonly groups: LinearGroup[] = [];
  readonly norms: GpuNorm[] = [];
  readonly #graph: GraphBuilder;
  readonly #variant: GraphVariant;
  readonly #precision: GpuPrecision;
  /** Biases and norm weights by tensor name. */
  readonly #small: ReadonlyMap<string, Float32Array>;

  constructor(
    graph: GraphBuilder,
    variant: GraphVariant,
    precision: GpuPrecision,
    small: ReadonlyMap<string, Float32Array>,
  ) {
    this.#graph = graph;
    this.#variant = variant;
    this.#precision = precision;
    this.#small = small;
  }

  /** y [rows, out] of x [rows, in], the linears' outputs side by side. */
  product(x: Value, group: LinearGroup): Value {
    this.groups.push(group);
    const graph = this.#graph;
    const { key, inFeatures, outFeatures } = group;
    const type = elementType(this.#precision);
    const own = groupBias(group, this.#small);
    const bias =
      own === undefined || this.#variant === 'full' ? undefined : this.constant(`bias.of.${key}`, own, [outFeatures]);
    const base = emitProduct(graph, x, group, bias, this.#precision);
    if (this.#variant === 'base') return base;
    const ranks = `ranks.${key}`;
    const a = graph.input(gpuInputs.a(key), type, [ranks, inFeatures]);
    const b = graph.input(gpuInputs.b(key), type, [ranks, outFeatures]);
    const mine = graph.input(gpuInputs.mine(key), 'bool', [`mine.groups.${key}`, ranks]);
    const weights = graph.input(gpuInputs.weights(key), type, [`weights.groups.${key}`, ranks]);
    const hidden = graph.op('Where', [mine, graph.op('Gemm', [x, a], { transB: 1 }), this.constant('zero', ZERO, [])]);
    const y = graph.op('Gemm', [graph.op('Mul', [hidden, weights]), b, base]);
    if (this.#variant === 'lora') return y;
    const gain = graph.input(gpuInputs.gain(key), type, [`gain.groups.${key}`, `gain.out.${key}`]);
    const groupsBias = graph.input(gpuInputs.bias(key), type, [`bias.groups.${key}`, `bias.out.${key}`]);
    return graph.op('Add', [graph.op('Mul', [y, gain]), groupsBias]);
  }

  /** Norm over the last axis of x [rows, width], or of x [rows, heads, width] with the same weights for all heads. */
  norm(x: Value, norm: NormSpec, heads = 1): Value {
    const graph = this.#graph;
    const attributes = { axis: -1, epsilon: { float: norm.epsilon } };
    const op = norm.kind === 'rms' ? 'SimplifiedLayerNormalization' : 'LayerNormalization';
    const weight = shifted(this.#small.get(norm.weight)!, norm);
    const bias = norm.bias === undefined ? undefined : this.#small.get(norm.bias)!;
    if (this.#variant !== 'full') {
      const inputs = [x, this.constant(`norm.of.${norm.module}`, weight, [norm.width])];
      if (bias !== undefined) inputs.push(this.constant(`norm.bias.of.${norm.module}`, bias, [norm.width]));
      return graph.op(op, inputs, attributes);
    }
    this.norms.push({ norm, weight, bias });
    const ones = this.constant(`ones.${norm.width}`, new Float32Array(norm.width).fill(1), [norm.width]);
    const type = elementType(this.#precision);
    const perRow = (name: string): Value => {
      const input = graph.input(name, type, [`groups.${name}`, norm.width]);
      return heads === 1 ? input : graph.op('Unsqueeze', [input, graph.ints([1])]);
    };
    const scaled = graph.op('Mul', [graph.op(op, [x, ones], attributes), perRow(gpuInputs.norm(norm.module))]);
    return bias === undefined ? scaled : graph.op('Add', [scaled, perRow(gpuInputs.normBias(norm.module))]);
  }

  /** A constant of the graph's element type under a name of its own; made once. */
  constant(name: string, values: Float32Array, dims: readonly number[]): Value {
    const graph = this.#graph;
    if (!graph.declared(name)) {
      if (!this.#precision.half) graph.constant(name, values, dims);
      else graph.named(name, 'Cast', [graph.constant(`${name}.f32`, values, dims)], { to: 10 });
    }
    return name;
  }
}

const ZERO = Float32Array.of(0);

/** The biases of a group side by side, zero where a linear has none; undefined if none has. */
export function groupBias(
  { linears, outFeatures }: LinearGroup,
  small: ReadonlyMap<string, Float32Array>,
): Float32Array | undefined {
  if (linears.every(({ bias }) => bias === undefined)) return undefined;
  const values = new Float32Array(outFeatures);
  let at = 0;
  for (const linear of linears) {
    if (linear.bias !== undefined) values.set(small.get(linear.bias)!, at);
    at += linear.outFeatures;
  }
  return values;
}

/** The factor that a stored norm weight means. */
function shifted(values: Float32Array, { plusOne }: NormSpec): Float32Array {
  return plusOne === true ? values.map((value) => value + 1) : values;
}
