/**
 * Where adapters enter the graph. A *site* is a linear (or norm) whose output may differ per row group. Rows are taken as
 * [groups, rows per group]: one group for a prefill or for rows that share one selection, else several of one size.
 *
 * - `base`: no adapter inputs at all, so an all-base step costs nothing extra.
 * - `lora`: every linear has low-rank inputs a [groups, rank, in] and b [groups, rank, out]; rank 0 adds nothing. All values
 *   are [groups, rows per group, width] from the embeddings on, so that no linear has to be regrouped.
 * - `pieces`: the same inputs cut and shared out otherwise, for rows of many selections; see graph-pieces.ts.
 * - `full`: also a gain and a bias per group (DoRA, replaced biases) and replaceable norm weights.
 */

import type { LinearKernel } from './graph-linears.js';
import { PieceEmitter } from './graph-pieces.js';
import type { GraphBuilder, Value } from './onnx-graph.js';
import type { LinearSpec, NormSpec } from './spec.js';

/** Which adapter inputs a graph has. */
export type GraphVariant = 'base' | 'lora' | 'pieces' | 'full';

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
  readonly #pieces: PieceEmitter;
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
    this.#pieces = new PieceEmitter(graph);
    this.#small = small;
  }

  /** True: values are [groups, rows per group, width]; else [rows, width]. */
  get grouped(): boolean {
    return this.#variant === 'lora';
  }

  /** Of a value that holds the rows' `width` values in whatever shape: as linears take it. */
  asRows(x: Value, width: number): Value {
    return this.grouped ? this.#group(x, width) : this.asFlatRows(x, width);
  }

  /** The same as [rows, width], whatever the variant. */
  asFlatRows(x: Value, width: number): Value {
    return this.#graph.op('Reshape', [x, this.#graph.ints([-1, width])]);
  }

  /**
   * Some rows of x [rows, width], grouped or not.
   * @param at int64 [count], which; where there are several groups, as many of each, in order
   */
  rowsAt(x: Value, at: Value, width: number): Value {
    const chosen = this.#graph.op('Gather', [this.grouped ? this.asFlatRows(x, width) : x, at], { axis: 0 });
    return this.grouped ? this.#group(chosen, width) : chosen;
  }

  /** y [rows, out] of x [rows, in], grouped or not. */
  linear(x: Value, linear: LinearSpec): Value {
    return this.linearsOf(x, [linear])[0]!;
  }

  /** y [rows, out] of x [rows, in], whatever shape values have in this variant. */
  flatLinear(x: Value, linear: LinearSpec): Value {
    return this.#emit(x, [linear], false)[0]!;
  }

  /** The outputs of linears that all read x [rows, in], grouped or not. */
  linearsOf(x: Value, linears: readonly LinearSpec[]): Value[] {
    return this.#emit(x, linears, this.grouped);
  }

  #emit(x: Value, linears: readonly LinearSpec[], grouped: boolean): Value[] {
    this.linears.push(...linears);
    const biases = linears.map(({ bias, outFeatures }) =>
      bias === undefined ? undefined : this.#weight(bias, outFeatures),
    );
    const full = this.#variant === 'full';
    const products = this.#kernel.emit(
      this.#graph,
      { x, grouped },
      linears,
      full ? linears.map(() => undefined) : biases,
    );
    if (this.#variant === 'base') return products;
    return linears.map((linear, i) => {
      if (this.#variant === 'pieces') {
        const update = this.#pieces.update(x, linear, ...this.#pair(linear, 'pieces'));
        return this.#graph.op('Add', [products[i]!, update]);
      }
      const update = this.#update(grouped ? x : this.#group(x, linear.inFeatures), linear);
      if (full) return this.#fullyAdapted(update, linear, products[i]!, biases[i]);
      return this.#graph.op('Add', [products[i]!, grouped ? update : this.asFlatRows(update, linear.outFeatures)]);
    });
  }

  /** The low-rank update of a linear, of x [groups, rows per group, in]: [groups, rows per group, out]. */
  #update(x: Value, linear: LinearSpec): Value {
    const [a, b] = this.#pair(linear, 'groups');
    const hidden = this.#graph.contrib('FusedMatMul', [x, a], { transB: 1 }); // [groups, m, rank]
    return this.#graph.op('MatMul', [hidden, b]);
  }

  /** The inputs a and b of a linear, `units` of them side by side. */
  #pair({ module, inFeatures, outFeatures }: LinearSpec, units: string): [a: Value, b: Value] {
    return [
      this.#graph.input(siteInputs.a(module), 'float32', [units, `rank.${module}`, inFeatures]),
      this.#graph.input(siteInputs.b(module), 'float32', [units, `rank.${module}`, outFeatures]),
    ];
  }

  /** DoRA scales product and update together, before any bias. */
  #fullyAdapted(update: Value, linear: LinearSpec, product: Value, bias: Value | undefined): Value {
    const graph = this.#graph;
    const { module, outFeatures } = linear;
    const gain = graph.input(siteInputs.gain(module), 'float32', [`gain.g.${module}`, 1, `gain.o.${module}`]);
    const groupBias = graph.input(siteInputs.bias(module), 'float32', [`bias.g.${module}`, 1, `bias.o.${module}`]);
    const base = this.#group(product, outFeatures);
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

  /** The sum of two values [rows, width] and its norm, as one node where the norm has one. */
  normOfSum(x: Value, y: Value, norm: NormSpec): { sum: Value; normed: Value } {
    const graph = this.#graph;
    if (this.#variant === 'full' || norm.kind !== 'rms' || norm.bias !== undefined) {
      const sum = graph.op('Add', [x, y]);
      return { sum, normed: this.norm(sum, norm) };
    }
    this.norms.push(norm);
    const [normed, sum] = [graph.fresh('normed'), graph.fresh('sum')];
    const inputs = [x, y, this.#weight(norm.weight, norm.width, norm.plusOne ? 1 : 0)];
    const attributes = { epsilon: { float: norm.epsilon } };
    graph.into('SkipSimplifiedLayerNormalization', inputs, [normed, '', '', sum], attributes, 'com.microsoft');
    return { sum, normed };
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
