/**
 * Where adapters enter the graph. A *site* is a linear (or norm) whose output may differ per row group. Rows are taken as
 * [groups, rows per group]: one group for a prefill or for rows that share one selection, else several of one size.
 *
 * - `base`: no adapter inputs at all, so an all-base step costs nothing extra.
 * - `lora`: every linear has low-rank inputs a [groups, rank, in] and b [groups, rank, out]; rank 0 adds nothing.
 * - `pieces`: the same inputs cut and shared out otherwise, for rows of many selections; see graph-pieces.ts.
 * - `full`: as `lora`, and also a gain and a bias per group (DoRA, replaced biases) and replaceable norm weights.
 *
 * In graphs of groups all values are [groups, rows per group, width] from the embeddings on. To regroup them at each linear
 * would cost two nodes there, and onnxruntime would lose sight of their shapes (docs/decisions/0037).
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
    return this.#variant === 'lora' || this.#variant === 'full';
  }

  /** Of a value that holds all rows' `width` values in whatever shape: as linears take it. */
  asRows(x: Value, width: number): Value {
    const rows = this.grouped ? this.#group(x, width) : this.asFlatRows(x, width);
    return this.#graph.known(rows, [...(this.grouped ? ['groups', 'members'] : ['rows']), width]);
  }

  /** A value that holds rows of `width` values in whatever shape as [rows, width], whatever the variant. */
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
      const product = grouped ? products[i]! : this.#group(products[i]!, linear.outFeatures);
      const update = this.#update(grouped ? x : this.#group(x, linear.inFeatures), linear);
      const y = full
        ? this.#fullyAdapted(product, update, linear, biases[i])
        : this.#graph.op('Add', [product, update]);
      return grouped ? y : this.asFlatRows(y, linear.outFeatures);
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

  /** DoRA scales product and update together, before any bias. All values are [groups, rows per group, out]. */
  #fullyAdapted(product: Value, update: Value, linear: LinearSpec, bias: Value | undefined): Value {
    const graph = this.#graph;
    const { module } = linear;
    const gain = graph.input(siteInputs.gain(module), 'float32', ['groups', 1, `gain.o.${module}`]);
    const groupBias = graph.input(siteInputs.bias(module), 'float32', ['groups', 1, `bias.o.${module}`]);
    let y = graph.op('Mul', [graph.op('Add', [product, update]), gain]);
    y = graph.op('Add', [y, groupBias]);
    return bias === undefined ? y : graph.op('Add', [y, bias]);
  }

  /** Norm of x [rows, width], grouped or not. */
  norm(x: Value, norm: NormSpec): Value {
    return this.#norm(x, norm, this.grouped);
  }

  /** Norm of x [rows, width], whatever shape values have in this variant; a row may have several norms side by side. */
  flatNorm(x: Value, norm: NormSpec): Value {
    return this.#norm(x, norm, false);
  }

  #norm(x: Value, norm: NormSpec, grouped: boolean): Value {
    this.norms.push(norm);
    const type = norm.kind === 'rms' ? 'SimplifiedLayerNormalization' : 'LayerNormalization';
    const attributes = { axis: -1, epsilon: { float: norm.epsilon } };
    const normed = this.#graph.op(type, [x, ...this.#ownVectors(norm)], attributes);
    return this.#variant === 'full' ? this.#weighed(normed, norm, grouped) : normed;
  }

  /**
   * The sum of two values [rows, width], grouped or not, and its norm: one node, which says that a sum has the shape of its
   * first part, whatever onnxruntime knows of the second's.
   */
  normOfSum(x: Value, y: Value, norm: NormSpec): { sum: Value; normed: Value } {
    this.norms.push(norm);
    const type = norm.kind === 'rms' ? 'SkipSimplifiedLayerNormalization' : 'SkipLayerNormalization';
    const [normed, sum] = [this.#graph.fresh('normed'), this.#graph.fresh('sum')];
    const inputs = [x, y, ...this.#ownVectors(norm)];
    const attributes = { epsilon: { float: norm.epsilon } };
    this.#graph.into(type, inputs, [normed, '', '', sum], attributes, 'com.microsoft');
    return { sum, normed: this.#variant === 'full' ? this.#weighed(normed, norm, this.grouped) : normed };
  }

  /** The base's weight and bias, as a norm's node takes them; in `full` graphs ones, since weights come from outside. */
  #ownVectors(norm: NormSpec): Value[] {
    if (this.#variant === 'full') {
      const key = `ones.${norm.width}`;
      if (!this.#graph.declared(key)) {
        this.#graph.constant(key, new Float32Array(norm.width).fill(1), [norm.width]);
      }
      return [key];
    }
    const weight = this.#weight(norm.weight, norm.width, norm.plusOne ? 1 : 0);
    return norm.bias === undefined ? [weight] : [weight, this.#weight(norm.bias, norm.width)];
  }

  /** A normed value times the weights, and plus the biases, of its groups. */
  #weighed(normed: Value, norm: NormSpec, grouped: boolean): Value {
    const graph = this.#graph;
    const dims = ['groups', 1, norm.width];
    const weight = graph.input(siteInputs.norm(norm.module), 'float32', dims);
    let y = graph.op('Mul', [grouped ? normed : this.#group(normed, norm.width), weight]);
    if (norm.bias !== undefined) {
      y = graph.op('Add', [y, graph.input(siteInputs.normBias(norm.module), 'float32', dims)]);
    }
    return grouped ? y : this.asFlatRows(y, norm.width);
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
