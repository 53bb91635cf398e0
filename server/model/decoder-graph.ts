/**
 * A decoder's description to its ONNX graph: embeddings in, logits of chosen rows and the new keys and values out.
 * `rows` are the step's tokens in the order [sequence, batch]; `lora` and `full` have them as [groups, rows per group].
 */
import { emitActivation } from './graph-activation.js';
import { type AttentionInputs, emitAttention } from './graph-attention.js';
import type { LinearKernel } from './graph-linears.js';
import { type GraphVariant, SiteEmitter } from './graph-sites.js';
import { GraphBuilder, type Value } from './onnx-graph.js';
import type { DecoderSpec, LinearSpec, MlpSpec, NormSpec, ProjectionSpec } from './spec.js';

/** A finished graph and what a caller needs to feed and fetch it. */
export interface DecoderGraph {
  readonly bytes: Uint8Array;
  readonly variant: GraphVariant;
  /** True: `embeds` is [groups, rows per group, hidden] rather than [rows, hidden]. */
  readonly grouped: boolean;
  readonly inputNames: readonly string[];
  /** Output names: logits [logit rows, vocab]; new keys and values by layer, each with rows * kvHeads * headDim values. */
  readonly logits: string;
  /**
   * What greedy rows need of them, [logit rows, 1] each: ids of the largest ones (the lowest on ties; int64), those, and the
   * natural logs of their probabilities.
   */
  readonly largest: { readonly ids: string; readonly logits: string; readonly logprobs: string };
  /** What the head reads for these rows, [logit rows, hidden]; fetched only where an adapter has output rows of its own. */
  readonly headInput: string;
  readonly keys: readonly string[];
  readonly values: readonly string[];
  /** Distinct windows that have a mask input; 0 = no window. */
  readonly windows: readonly number[];
  /** Widths that have a `group.<width>` input. */
  readonly groupWidths: readonly number[];
  /** Sites in the order of the model; empty in the base variant. */
  readonly linears: readonly LinearSpec[];
  /** Norms with inputs of their own (full variant only), and what the base has there. */
  readonly norms: readonly {
    readonly norm: NormSpec;
    readonly weight: Float32Array;
    readonly bias: Float32Array | undefined;
  }[];
}

/** Name of the mask input for a window (0 = the whole past). */
export const maskInput = (window: number): string => (window === 0 ? 'mask' : `mask.${window}`);

/**
 * Builds the graph.
 * @param small biases and norm weights by tensor name, as float32
 */
export function buildDecoderGraph(
  spec: DecoderSpec,
  kernel: LinearKernel,
  variant: GraphVariant,
  small: ReadonlyMap<string, Float32Array>,
): DecoderGraph {
  const graph = new GraphBuilder();
  const sites = new SiteEmitter(graph, kernel, variant, small);
  const windows = new Set<number>();
  const rows = sites.grouped ? ['groups', 'members'] : ['rows'];
  const x = graph.input('embeds', 'float32', [...rows, spec.hiddenSize]);
  const logitRows = graph.input('logit_rows', 'int64', ['logit_rows']);
  const inputs: AttentionInputs = {
    positions: spec.ropes.length > 0 ? graph.input('pos', 'int64', [1, 'rows']) : '',
    cos: spec.ropes.map((rope, i) => graph.input(`cos.${i}`, 'float32', ['rows', rope.rotaryDim / 2])),
    sin: spec.ropes.map((rope, i) => graph.input(`sin.${i}`, 'float32', ['rows', rope.rotaryDim / 2])),
    shapes: {
      query: graph.input('shape.query', 'int64', [5]),
      context: graph.input('shape.context', 'int64', [5]),
      merged: graph.input('shape.merged', 'int64', [4]),
      key: graph.input('shape.key', 'int64', [4]),
    },
    split: graph.input('split', 'int64', [2]),
    mask: (window) => {
      if (!windows.has(window)) {
        windows.add(window);
        graph.input(maskInput(window), 'float32', ['batch', 1, 'merged', 'all']);
      }
      return maskInput(window);
    },
  };
  const keys: Value[] = [];
  const values: Value[] = [];
  const stream = new ResidualStream(graph, sites, x);
  for (const [index, layer] of spec.layers.entries()) {
    const normed = stream.normed(layer.preAttentionNorm);
    const [q, k, v] = emitProjection(graph, sites, normed, layer.attention.qkv);
    const attended = emitAttention(graph, sites, spec, layer.attention, index, [q!, k!, v!], inputs);
    keys.push(
      graph.output(attended.keys, 'float32', [...(layer.attention.rope === undefined ? rows : [1, 'rows']), 'kv']),
    );
    values.push(graph.output(attended.values, 'float32', [...rows, 'kv']));
    // Behind the last keys and values only the rows whose logits are wanted matter to anybody.
    const wanted = (value: Value, width: number) =>
      index < spec.layers.length - 1 ? value : sites.rowsAt(value, logitRows, width);
    stream.keep((value) => wanted(value, spec.hiddenSize));
    const context = wanted(attended.context, spec.queryHeads * spec.headDim);
    let branch = sites.linear(context, layer.attention.output);
    if (layer.postAttentionNorm !== undefined) branch = sites.norm(branch, layer.postAttentionNorm);
    // In the parallel form both branches read what the layer was given.
    const mlpNormed = layer.parallel
      ? layer.preMlpNorm === undefined
        ? wanted(normed, spec.hiddenSize)
        : stream.normed(layer.preMlpNorm)
      : undefined;
    stream.add(branch, layer.residualScale);
    let fed = emitMlp(graph, sites, mlpNormed ?? stream.normed(layer.preMlpNorm), layer.mlp);
    if (layer.postMlpNorm !== undefined) fed = sites.norm(fed, layer.postMlpNorm);
    stream.add(fed, layer.residualScale);
  }
  const last = sites.grouped ? sites.asFlatRows(stream.value, spec.hiddenSize) : stream.value;
  const headInput = graph.output(sites.flatNorm(last, spec.finalNorm), 'float32', ['logit_rows', spec.hiddenSize]);
  let logits = sites.flatLinear(headInput, spec.head.linear);
  if (spec.head.scale !== undefined) logits = graph.op('Mul', [logits, graph.scalar(spec.head.scale)]);
  if (spec.head.softcap !== undefined) {
    const cap = graph.scalar(spec.head.softcap);
    logits = graph.op('Mul', [graph.op('Tanh', [graph.op('Div', [logits, cap])]), cap]);
  }
  graph.output(logits, 'float32', ['logit_rows', spec.vocabSize]);
  const ids = graph.output(graph.op('ArgMax', [logits], { axis: 1, keepdims: 1 }), 'int64', ['logit_rows', 1]);
  const atIds = (values: Value) =>
    graph.output(graph.op('GatherElements', [values, ids], { axis: 1 }), 'float32', ['logit_rows', 1]);
  const largest = { ids, logits: atIds(logits), logprobs: atIds(graph.op('LogSoftmax', [logits], { axis: 1 })) };
  return {
    bytes: graph.finish(`${spec.modelType}-${variant}`),
    variant,
    grouped: sites.grouped,
    inputNames: graph.inputNames,
    logits,
    largest,
    headInput,
    keys,
    values,
    windows: [...windows],
    groupWidths: [...sites.widths],
    linears: variant === 'base' ? [] : sites.linears,
    norms: variant === 'full' ? sites.norms.map((norm) => ({ norm, ...sites.normInputs(norm) })) : [],
  };
}

/** The outputs of a projection, one value per consumer. */
function emitProjection(graph: GraphBuilder, sites: SiteEmitter, x: Value, projection: ProjectionSpec): Value[] {
  if (projection.kind === 'separate') return sites.linearsOf(x, projection.linears);
  const { sizes, parts = 1 } = projection;
  let fused = sites.linear(x, projection.linear);
  const width = sizes.reduce((sum, size) => sum + size);
  if (parts > 1) fused = graph.op('Reshape', [fused, graph.ints([-1, width])]); // [rows * parts, width]
  const values = graph.multi('Split', [fused, graph.ints(sizes)], sizes.length, { axis: -1 });
  return parts > 1 ? values.map((value, i) => sites.asRows(value, parts * sizes[i]!)) : values;
}

function emitMlp(graph: GraphBuilder, sites: SiteEmitter, x: Value, mlp: MlpSpec): Value {
  const [first, second] = emitProjection(graph, sites, x, mlp.input);
  const activated = emitActivation(graph, first!, mlp);
  return sites.linear(mlp.gated ? graph.op('Mul', [activated, second!]) : activated, mlp.output);
}

/** What the layers add to; the newest addition waits for the norm that reads the sum, so that both are one node. */
class ResidualStream {
  readonly #graph: GraphBuilder;
  readonly #sites: SiteEmitter;
  #value: Value;
  #added: Value | undefined;

  constructor(graph: GraphBuilder, sites: SiteEmitter, value: Value) {
    this.#graph = graph;
    this.#sites = sites;
    this.#value = value;
  }

  /** [rows, hidden] */
  get value(): Value {
    if (this.#added !== undefined) this.#value = this.#graph.op('Add', [this.#value, this.#added]);
    this.#added = undefined;
    return this.#value;
  }

  /** Goes on with what `choose` makes of the value. */
  keep(choose: (value: Value) => Value): void {
    this.#value = choose(this.value);
  }

  /** The norm of the stream; the stream itself where there is none. */
  normed(norm: NormSpec | undefined): Value {
    if (norm === undefined) return this.value;
    if (this.#added === undefined) return this.#sites.norm(this.#value, norm);
    const { sum, normed } = this.#sites.normOfSum(this.#value, this.#added, norm);
    this.#value = sum;
    this.#added = undefined;
    return normed;
  }

  /** Adds a branch times `scale`. */
  add(branch: Value, scale: number | undefined): void {
    const { value } = this;
    this.#value = value;
    this.#added = scale === undefined ? branch : this.#graph.op('Mul', [branch, this.#graph.scalar(scale)]);
  }
}
