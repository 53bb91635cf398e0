/**
 * Attention over caches that stay on the device: [slots, kvHeads, capacity, headDim], fed as the past and fetched as the
 * present in the same buffer, so a step writes its tokens' keys and values in place and nothing of a cache ever crosses.
 * GroupQueryAttention does it in one node, except where the provider's kernel ignores what a model needs (a soft cap) or
 * cannot take its heads; there primitive ops do, over the whole capacity under a mask.
 */
import { emitRotary, type RotaryInputs } from '../graph-rotary.js';
import type { GraphBuilder, Value } from '../onnx-graph.js';
import { float } from '../onnx-messages.js';
import type { AttentionSpec, DecoderSpec, HeadNorms, NormSpec } from '../spec.js';
import { elementType, type GpuPrecision } from './gpu-precision.js';
import type { GpuSites } from './gpu-sites.js';
import { emitPagedAttention } from './paged-attention.js';

/** Names of a layer's cache inputs and outputs. */
export const cacheNames = {
  pastKeys: (layer: number) => `past_k.${layer}`,
  pastValues: (layer: number) => `past_v.${layer}`,
  keys: (layer: number) => `present_k.${layer}`,
  values: (layer: number) => `present_v.${layer}`,
} as const;

/** Name of the mask input for a window (0 = the whole past); float32 [batch, 1, 1, sequence, capacity], additive. */
export const gpuMaskInput = (window: number): string => (window === 0 ? 'mask' : `mask.${window}`);

/**
 * What attention is made of: operators of one purpose each, the provider's kernel over whole rows where it knows what a
 * layer means, or its kernel over pages (paged-attention.ts).
 */
export type AttentionForm = 'primitive' | 'kernel' | 'paged';

/** Values that all layers of a graph share. */
export interface GpuAttentionInputs extends RotaryInputs {
  readonly form: AttentionForm;
  /** int64 [3]: [batch, sequence, -1]. */
  readonly shape: () => Value;
  /** int32 [batch]: past and new tokens of each row, minus 1. */
  readonly lengths: () => Value;
  /** int32 [1]: the largest of `lengths`, plus 1. */
  readonly total: () => Value;
  /** int64 [rows * kvHeads, 3]: slot, kv head and position of each new key. */
  readonly places: () => Value;
  readonly mask: (window: number) => Value;
}

/** True where the provider's own attention kernel computes what the layer means. */
function hasAttentionKernel(spec: DecoderSpec, attention: AttentionSpec): boolean {
  return attention.softcap === undefined && spec.headDim % 8 === 0;
}

/** Emits one layer's attention; q [rows, queryHeads * headDim], k and v [rows, kvHeads * headDim]. Returns q's shape. */
export function emitGpuAttention(
  graph: GraphBuilder,
  sites: GpuSites,
  spec: DecoderSpec,
  attention: AttentionSpec,
  layer: number,
  [q, k, v]: readonly [Value, Value, Value],
  inputs: GpuAttentionInputs,
  precision: GpuPrecision,
): Value {
  const { queryHeads, kvHeads, headDim } = spec;
  const type = elementType(precision);
  const cacheDims = ['slots', kvHeads, 'capacity', headDim];
  const normalise = (x: Value, heads: number, norm: HeadNorms): Value => {
    if (isPerHead(norm)) {
      const parts = graph.multi('Split', [x, graph.ints(norm.map(() => headDim))], heads, { axis: -1 });
      const normed = parts.map((part, head) => sites.norm(part, norm[head]!)); // [rows, headDim] each
      return graph.op('Concat', normed, { axis: -1 });
    }
    if (attention.normWhole === true) return sites.norm(x, norm);
    const byHead = graph.op('Reshape', [x, graph.ints([-1, heads, headDim])]);
    return graph.op('Reshape', [sites.norm(byHead, norm, heads), graph.ints([-1, heads * headDim])]);
  };
  const prepare = (x: Value, heads: number, norm: HeadNorms | undefined): Value => {
    const y = norm === undefined ? x : normalise(x, heads, norm);
    return emitRotary(graph, spec, attention, y, heads, inputs);
  };
  const queries = prepare(q, queryHeads, attention.qNorm);
  const keys = prepare(k, kvHeads, attention.kNorm);
  if (inputs.form === 'paged') return emitPagedAttention(graph, spec, attention, layer, [queries, keys, v]);

  const past = (name: string) => graph.input(name, type, cacheDims);
  const pastKeys = past(cacheNames.pastKeys(layer));
  const pastValues = past(cacheNames.pastValues(layer));
  const keysOut = cacheNames.keys(layer);
  const valuesOut = cacheNames.values(layer);
  const flat = graph.ints([-1, queryHeads * headDim]);
  if (inputs.form === 'kernel' && hasAttentionKernel(spec, attention)) {
    const [query, key, value] = [queries, keys, v].map((x) => graph.op('Reshape', [x, inputs.shape()]));
    const output = graph.fresh('attention');
    graph.into(
      'GroupQueryAttention',
      [query!, key!, value!, pastKeys, pastValues, inputs.lengths(), inputs.total()],
      [output, keysOut, valuesOut],
      {
        num_heads: queryHeads,
        kv_num_heads: kvHeads,
        scale: float(attention.scale),
        ...(attention.window !== undefined && { local_window_size: attention.window }),
      },
      'com.microsoft',
    );
    graph.output(keysOut, type, cacheDims);
    graph.output(valuesOut, type, cacheDims);
    return graph.op('Reshape', [output, flat]);
  }

  const write = (into: Value, fresh: Value, output: string): Value => {
    const rows = graph.op('Reshape', [fresh, graph.ints([-1, headDim])]); // [rows * kvHeads, headDim]
    graph.into('ScatterND', [into, inputs.places(), rows], [output]);
    return graph.output(output, type, cacheDims);
  };
  const allKeys = write(pastKeys, keys, keysOut);
  const allValues = write(pastValues, v, valuesOut);
  const group = queryHeads / kvHeads;
  const heads = graph.op('Reshape', [
    graph.op('Reshape', [queries, inputs.shape()]),
    graph.ints([0, 0, kvHeads, group, headDim]),
  ]);
  const scale = sites.constant(`scale.${attention.scale}`, Float32Array.of(attention.scale), []);
  let scores = graph.op('Einsum', [heads, allKeys], { equation: 'bskgd,bktd->bkgst' }); // [B, KV, G, S, C]
  scores = graph.op('Mul', [scores, scale]);
  if (attention.softcap !== undefined) {
    const cap = sites.constant(`cap.${attention.softcap}`, Float32Array.of(attention.softcap), []);
    scores = graph.op('Mul', [graph.op('Tanh', [graph.op('Div', [scores, cap])]), cap]);
  }
  const weights = graph.op('Softmax', [graph.op('Add', [scores, inputs.mask(attention.window ?? 0)])], { axis: -1 });
  const mixed = graph.op('Einsum', [weights, allValues], { equation: 'bkgst,bktd->bskgd' }); // [B, S, KV, G, HD]
  return graph.op('Reshape', [mixed, flat]);
}

function isPerHead(norm: HeadNorms): norm is readonly NormSpec[] {
  return Array.isArray(norm);
}
