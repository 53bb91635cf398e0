/**
 * Where adapters enter the graph. A *site* is a linear (or norm) whose output may differ per row group. Rows are taken as
 * [groups, rows per group]: one group for a prefill or for rows that share one selection, else one group per row.
 *
 * - `base`: no adapter inputs at all, so an all-base step costs nothing extra.
 * - `lora`: every linear has low-rank inputs a [groups, rank, in] and b [groups, rank, out]; rank 0 adds nothing.
 * - `full`: also a gain and a bias per group (DoRA, replaced biases) and replaceable norm weights.
 */

import type { LinearKernel } from './graph-linears.js';
import type { GraphBuilder, Value } from './onnx-graph.js';
import type { LinearSpec, NormSpec } from './spec.js';

/** Which adapter inputs a graph has. */
export type GraphVariant = 'base' | 'lora' | 'full';

/** Graph input names of a linear's site. */
export const siteInputs = {
  a: (module: string) => `a.${module}`,
  b: (module: string) => `b.${module}`,
  gain: (module: string) => `gain.${module}`,
  bias: (module: string) => `bias.${module}`,
  norm: (module: string) => `norm.${module}`,
  normBias: (module: string) => `normbias.${module}`,
  /** int64 [3]: [groups, -1, width]. */
  group: (width: number) => `group.${width}`,
} as const;

/** Emits linears and norms with the adapter inputs of one variant, and remembers which sites and widths it used. */
export class SiteEmitter {
  readonly linears: LinearSpec[] = [];
  readonly norms: NormSpec[] = [];
  readonly widths = new Set<number>();
  readonly #graph: GraphBuilder;
  readonly #kernel: LinearKernel;
  readonly #variant: GraphVariant;
  /** Small float tensors read beforehand: biases and norm weights by tensor name. */
  readonly #small: ReadonlyMap<string, Float32Array>;
  /** x viewed as [groups, rows per group, in], shared by the linears that read the same x. */
  readonly #grouped = new Map<string, Value>();

  constructor(
    graph: GraphBuilder,
    kernel: LinearKernel,
    variant: GraphVariant,
    small: ReadonlyMap<string, Float32Array>,
  ) {
    this.#graph = graph;
    this.#kernel = kernel;
    this.#variant = variant;
    this.#small = small;
  }

  /** y [rows, out] of x [rows, in]. */
  linear(x: Value, linear: LinearSpec): Value {
    this.linears.push(linear);
    const graph = this.#graph;
    const bias = linear.bias === undefined ? undefined : this.#weight(linear.bias, linear.outFeatures);
    if (this.#variant === 'base') return this.#kernel.emit(graph, x, linear, bias);
    const { module, inFeatures, outFeatures } = linear;
    const a = graph.input(siteInputs.a(module), 'float32', ['groups', `rank.${module}`, inFeatures]);
    const b = graph.input(siteInputs.b(module), 'float32', ['groups', `rank.${module}`, outFeatures]);
    const hidden = graph.contrib('FusedMatMul', [this.#group(x, inFeatures), a], { transB: 1 }); // [groups, m, rank]
    const update = graph.op('MatMul', [hidden, b]); // [groups, m, out]
    if (this.#variant === 'lora') {
      const base = this.#kernel.emit(graph, x, linear, bias);
      return graph.op('Add', [base, graph.op('Reshape', [update, graph.ints([-1, outFeatures])])]);
    }
    // DoRA scales product and update together, before any bias.
    const gain = graph.input(siteInputs.gain(module), 'float32', [`gain.g.${module}`, 1, `gain.o.${module}`]);
    const groupBias = graph.input(siteInputs.bias(module), 'float32', [`bias.g.${module}`, 1, `bias.o.${module}`]);
    const base = this.#group(this.#kernel.emit(graph, x, linear, undefined), outFeatures);
    let y = graph.op('Mul', [graph.op('Add', [base, update]), gain]);
    y = graph.op('Add', [y, groupBias]);
    if (bias !== undefined) y = graph.op('Add', [y, bias]);
    return graph.op('Reshape', [y, graph.ints([-1, outFeatures])]);
  }

  /** Norm over the last `width` values of x [rows, width * k]; the result has x's shape [rows * k, width]. */
  norm(x: Value, norm: NormSpec): Value {
    this.norms.push(norm);
    const graph = this.#graph;
    const attributes = { axis: -1, epsilon: { float: norm.epsilon } };
    const type = norm.kind === 'rms' ? 'SimplifiedLayerNormalization' : 'LayerNormalization';
    if (this.#variant !== 'full') {
      const weight = this.#weight(norm.weight, norm.width, norm.plusOne ? 1 : 0);
      const inputs = norm.bias === undefined ? [x, weight] : [x, weight, this.#weight(norm.bias, norm.width)];
      return graph.op(type, inputs, attributes);
    }
    const key = `ones.${norm.width}`;
    if (!graph.declared(key)) graph.constant(key, new Float32Array(norm.width).fill(1), [norm.width]);
    const groupWeight = graph.input(siteInputs.norm(norm.module), 'float32', [`norm.g.${norm.module}`, 1, norm.width]);
    const normed = this.#group(graph.op(type, [x, key], attributes), norm.width);
    let scaled = graph.op('Mul', [normed, groupWeight]);
    if (norm.bias !== undefined) {
      const dims = [`normbias.g.${norm.module}`, 1, norm.width];
      scaled = graph.op('Add', [scaled, graph.input(siteInputs.normBias(norm.module), 'float32', dims)]);
    }
    return graph.op('Reshape', [scaled, graph.ints([-1, norm.width])]);
  }

  /** The weight and bias that `full` graphs take as norm inputs where no adapter replaces them. */
  normInputs(norm: NormSpec): { weight: Float32Array; bias: Float32Array | undefined } {
    const weight = shifted(this.#small.get(norm.weight)!, norm.plusOne ? 1 : 0);
    return { weight, bias: norm.bias === undefined ? undefined : this.#small.get(norm.bias)! };
  }

  #weight(name: string, width: number, shift = 0): Value {
    const key = shift === 0 ? name : `${name}+${shift}`;
    if (!this.#graph.declared(key)) this.#graph.constant(key, shifted(this.#small.get(name)!, shift), [width]);
    return key;
  }

  /** x [rows, width] as [groups, rows per group, width]; a reshape, so no data moves. */
  #group(x: Value, width: number): Value {
    const key = `${x}/${width}`;
    const known = this.#grouped.get(key);
    if (known !== undefined) return known;
    const name = siteInputs.group(width);
    if (!this.widths.has(width)) {
      this.widths.add(width);
      this.#graph.input(name, 'int64', [3]);
    }
    const grouped = this.#graph.op('Reshape', [x, name]);
    this.#grouped.set(key, grouped);
    return grouped;
  }
}

function shifted(values: Float32Array, shift: number): Float32Array {
  return shift === 0 ? values : values.map((value) => value + shift);
}
