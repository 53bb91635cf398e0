/**
 * A decoder's description to its graph for the WebGPU provider: embeddings in, logits of chosen rows out, caches updated
 * in place. Only operators with WebGPU kernels occur, and no integer arithmetic on 64 bits. `rows` are the step's tokens
 * in the order [batch, sequence].
 */

import { emitActivation } from '../graph-activation.js';
import type { GraphVariant } from '../graph-sites.js';
import { GraphBuilder, type Value } from '../onnx-graph.js';
import type { DecoderSpec, LayerSpec, MlpSpec, ProjectionSpec } from '../spec.js';
import {
  type AttentionForm,
  cacheNames,
  emitGpuAttention,
  type GpuAttentionInputs,
  gpuMaskInput,
} from './gpu-attention.js';
import { elementType, type GpuPrecision } from './gpu-precision.js';
import { type GpuNorm, GpuSites } from './gpu-sites.js';
import { groupOf, groupOfProjection, headGroup, type LinearGroup } from './linear-groups.js';

/** A finished graph and what a caller needs to feed and fetch it. */
export interface GpuGraph {
  readonly bytes: Uint8Array;
  readonly variant: GraphVariant;
  /** float32 [logit rows, vocab]. */
  readonly logits: string;
  /** What the head reads, [logit rows, hidden] in the element type; fetched only where a row has output rows of its own. */
  readonly headInput: string;
  /** Names of all inputs: which of `shape`, `lengths`, `total`, `places` and the masks the graph has. */
  readonly inputs: ReadonlySet<string>;
  /** Distinct windows that have a mask input; 0 = no window. */
  readonly windows: readonly number[];
  /** Linear groups with adapter inputs, in the order of the model; empty in the base variant. */
  readonly groups: readonly LinearGroup[];
  /** Norms with inputs of their own; `full` only. */
  readonly norms: readonly GpuNorm[];
}

/**
 * Builds the graph.
 * @param small biases and norm weights by tensor name, as float32
 * @param form what attention is made of; `paged` wants 16-bit floats and a model that has it
 */
export function buildGpuGraph(
  spec: DecoderSpec,
  variant: GraphVariant,
  precision: GpuPrecision,
  small: ReadonlyMap<string, Float32Array>,
  form: AttentionForm = 'kernel',
): GpuGraph {
  const graph = new GraphBuilder();
  const sites = new GpuSites(graph, variant, precision, small);
  const once = new Set<string>();
  const windows = new Set<number>();
  const narrow = (x: Value): Value => (precision.half ? graph.op('Cast', [x], { to: 10 }) : x);
  const lazily = (name: string, declare: () => void) => () => {
    if (!once.has(name)) declare();
    once.add(name);
    return name;
  };
  const table = (name: string, dim: number) => narrow(graph.input(name, 'float32', ['rows', dim]));
  let x = narrow(graph.input('embeds', 'float32', ['rows', spec.hiddenSize]));
  const logitRows = graph.input('logit_rows', 'int32', ['logit_rows']);
  const inputs: GpuAttentionInputs = {
    positions: spec.ropes.length > 0 ? graph.input('pos', 'int64', [1, 'rows']) : '',
    cos: spec.ropes.map((rope, i) => table(`cos.${i}`, rope.rotaryDim / 2)),
    sin: spec.ropes.map((rope, i) => table(`sin.${i}`, rope.rotaryDim / 2)),
    form,
    shape: lazily('shape', () => graph.input('shape', 'int64', [3])),
    lengths: lazily('lengths', () => graph.input('lengths', 'int32', ['batch'])),
    total: lazily('total', () => graph.input('total', 'int32', [1])),
    places: lazily('places', () => graph.input('places', 'int64', ['places', 3])),
    mask: (window) => {
      const name = gpuMaskInput(window);
      if (!windows.has(window)) graph.input(name, elementType(precision), ['batch', 1, 1, 'sequence', 'capacity']);
      windows.add(window);
      return name;
    },
  };
  for (const [index, layer] of spec.layers.entries()) {
    const normed = layer.preAttentionNorm === undefined ? x : sites.norm(x, layer.preAttentionNorm);
    const [q, k, v] = emitProjection(graph, sites, normed, layer.attention.qkv);
    const context = emitGpuAttention(graph, sites, spec, layer.attention, index, [q!, k!, v!], inputs, precision);
    let branch = sites.product(context, groupOf([layer.attention.output]));
    if (layer.postAttentionNorm !== undefined) branch = sites.norm(branch, layer.postAttentionNorm);
    const afterAttention = addScaled(graph, sites, x, branch, layer);
    const mlpInput = layer.parallel ? x : afterAttention;
    const mlpNormed =
      layer.preMlpNorm === undefined ? (layer.parallel ? normed : mlpInput) : sites.norm(mlpInput, layer.preMlpNorm);
    let fed = emitMlp(graph, sites, mlpNormed, layer.mlp);
    if (layer.postMlpNorm !== undefined) fed = sites.norm(fed, layer.postMlpNorm);
    x = addScaled(graph, sites, afterAttention, fed, layer);
  }
  const last = graph.op('Gather', [x, logitRows], { axis: 0 });
  const headInput = graph.output(sites.norm(last, spec.finalNorm), elementType(precision), [
    'logit_rows',
    spec.hiddenSize,
  ]);
  let logits = sites.product(headInput, headGroup(spec));
  if (precision.half) logits = graph.op('Cast', [logits], { to: 1 });
  if (spec.head.scale !== undefined) logits = graph.op('Mul', [logits, graph.scalar(spec.head.scale)]);
  if (spec.head.softcap !== undefined) {
    const cap = graph.scalar(spec.head.softcap);
    logits = graph.op('Mul', [graph.op('Tanh', [graph.op('Div', [logits, cap])]), cap]);
  }
  graph.output(logits, 'float32', ['logit_rows', spec.vocabSize]);
  return {
    bytes: graph.finish(`${spec.modelType}-gpu-${variant}`),
    variant,
    logits,
    headInput,
    inputs: new Set(graph.inputNames),
    windows: [...windows],
    groups: variant === 'base' ? [] : sites.groups,
    norms: sites.norms,
  };
}

/** Names under which a graph takes and gives a layer's caches. */
export { cacheNames };

/** The outputs of a projection, one value per consumer. */
function emitProjection(graph: GraphBuilder, sites: GpuSites, x: Value, projection: ProjectionSpec): Value[] {
  const { group, sizes, parts } = groupOfProjection(projection);
  const reshaped = (value: Value, width: number) => graph.op('Reshape', [value, graph.ints([-1, width])]);
  const width = sizes.reduce((sum, size) => sum + size);
  let y = sites.product(x, group);
  if (parts > 1) y = reshaped(y, width); // [rows * parts, width]
  if (sizes.length === 1) return [y];
  const values = graph.multi('Split', [y, graph.ints(sizes)], sizes.length, { axis: -1 });
  return parts > 1 ? values.map((value, i) => reshaped(value, parts * sizes[i]!)) : values;
}

function emitMlp(graph: GraphBuilder, sites: GpuSites, x: Value, mlp: MlpSpec): Value {
  const [first, second] = emitProjection(graph, sites, x, mlp.input);
  const activated = emitActivation(graph, first!, mlp);
  return sites.product(mlp.gated ? graph.op('Mul', [activated, second!]) : activated, groupOf([mlp.output]));
}

function addScaled(graph: GraphBuilder, sites: GpuSites, stream: Value, branch: Value, layer: LayerSpec): Value {
  const { residualScale } = layer;
  if (residualScale === undefined) return graph.op('Add', [stream, branch]);
  const scale = sites.constant(`residual.${residualScale}`, Float32Array.of(residualScale), []);
  return graph.op('Add', [stream, graph.op('Mul', [branch, scale])]);
}
