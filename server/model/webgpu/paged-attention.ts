/**
 * Attention over keys and values in pages of one pool for all rows: [pages, positions of a page, kvHeads, headDim] a layer.
 * A row's pages lie anywhere and are named in order by a table, so rows come, go and grow without moving, and share pages.
 * onnxruntime's `PagedAttention` writes a step's keys and values into the pool that it is fed, and has 16-bit floats only.
 */
import type { GraphBuilder, Value } from '../onnx-graph.js';
import { float } from '../onnx-messages.js';
import type { AttentionSpec, DecoderSpec } from '../spec.js';

/** Positions in a page: the operator takes powers of two from 16 on. Blocks of rows and of shared prefixes are multiples. */
export const PAGE = 32;

/** Names of a layer's pools of pages. */
export const poolNames = {
  keys: (layer: number) => `pages_k.${layer}`,
  values: (layer: number) => `pages_v.${layer}`,
} as const;

/** Names of the inputs that say whose tokens a step's are, and where they go. */
export const pageInputs = {
  /** int32 [batch + 1]: the first token of each row, and the number of all. */
  starts: 'starts',
  /** int32 [batch]: positions that each row has already. */
  past: 'past',
  /** int32 [batch, most pages of a row]: the row's pages in order; what lies behind its last position is never read. */
  table: 'page_table',
  /** int32 [2], on the host: most new tokens of a row, and most positions with them. */
  bounds: 'bounds',
} as const;

/** True where the operator computes what all of a model's layers mean. */
export function hasPagedAttention({ layers, headDim }: Pick<DecoderSpec, 'layers' | 'headDim'>): boolean {
  return headDim % 8 === 0 && layers.every(({ attention }) => attention.softcap === undefined);
}

/**
 * Emits the attention of queries (tokens of queryHeads * headDim values) to what their rows have, with keys and values
 * (kvHeads * headDim) appended to it. All are float16. Returns [tokens, queryHeads * headDim].
 */
export function emitPagedAttention(
  graph: GraphBuilder,
  { queryHeads, kvHeads, headDim }: Pick<DecoderSpec, 'queryHeads' | 'kvHeads' | 'headDim'>,
  { scale, window }: Pick<AttentionSpec, 'scale' | 'window'>,
  layer: number,
  [queries, keys, values]: readonly [Value, Value, Value],
): Value {
  const pool = (name: string) => graph.input(name, 'float16', ['pages', PAGE, kvHeads, headDim]);
  const once = (name: string, dims: readonly (string | number)[]) =>
    graph.inputNames.includes(name) ? name : graph.input(name, 'int32', dims);
  const flat = (x: Value, heads: number) => graph.op('Reshape', [x, graph.ints([-1, heads * headDim])]);
  const inputs = [
    ...[flat(queries, queryHeads), flat(keys, kvHeads), flat(values, kvHeads)],
    ...[pool(poolNames.keys(layer)), pool(poolNames.values(layer))],
    once(pageInputs.starts, ['batch + 1']),
    once(pageInputs.past, ['batch']),
    once(pageInputs.table, ['batch', 'most pages']),
    ...new Array<Value>(8).fill(''), // rotary tables, slots, sinks, norms and scales
    once(pageInputs.bounds, [2]),
  ];
  const attributes = {
    num_heads: queryHeads,
    kv_num_heads: kvHeads,
    scale: float(scale),
    ...(window !== undefined && { local_window_size: window }),
  };
  return graph.contrib('PagedAttention', inputs, attributes);
}
