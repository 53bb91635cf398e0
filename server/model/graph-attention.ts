/**
 * Attention over (past as fed) + (the new tokens), from primitive ops. The past lies time-major, [time, batch, kvHeads,
 * headDim], so that one buffer of growing length can be fed without a copy; new tokens have the same order, so a
 * step's tokens are [sequence, batch] flattened. The graph hands out the new keys and values only.
 */

import { emitRotary, type RotaryInputs } from './graph-rotary.js';
import type { SiteEmitter } from './graph-sites.js';
import type { GraphBuilder, Value } from './onnx-graph.js';
import { type Dim, float } from './onnx-messages.js';
import type { AttentionSpec, DecoderSpec, HeadNorms, NormSpec } from './spec.js';

/** Values that all layers of a graph share. */
export interface AttentionInputs extends RotaryInputs {
  /** int64 shapes, with `group` = query heads per kv head. */
  readonly shapes: {
    /** [sequence, batch, kvHeads, group, headDim] */
    readonly query: Value;
    /** [batch, kvHeads, group, sequence, headDim] */
    readonly context: Value;
    /** [batch, kvHeads, group * sequence, headDim] */
    readonly merged: Value;
    /** [sequence, batch, kvHeads, headDim] */
    readonly key: Value;
  };
  /** int64 [2]: [past length, sequence]. */
  readonly split: Value;
  /** Additive mask [batch, 1, group * sequence, past + sequence] (or 1 in the third place) by window (0 = none). */
  mask(window: number): Value;
}

/** Result of one layer's attention. */
export interface AttentionResult {
  /** [rows, queryHeads * headDim], grouped or not */
  readonly context: Value;
  /** New keys (rotated) [1, rows, kvHeads * headDim] or as k came, and values as v came. */
  readonly keys: Value;
  readonly values: Value;
}

/** Emits one layer's attention on q [rows, queryHeads * headDim], k and v [rows, kvHeads * headDim]. */
export function emitAttention(
  graph: GraphBuilder,
  sites: SiteEmitter,
  spec: DecoderSpec,
  attention: AttentionSpec,
  layer: number,
  [q, k, v]: readonly [Value, Value, Value],
  inputs: AttentionInputs,
): AttentionResult {
  const { queryHeads, kvHeads, headDim } = spec;
  const past = (kind: string) => graph.input(`past_${kind}.${layer}`, 'float32', ['past', 'batch', kvHeads, headDim]);
  const pastKeys = past('k');
  const pastValues = past('v');

  const normalise = (x: Value, heads: number, norm: HeadNorms): Value => {
    if (isPerHead(norm)) {
      const parts = graph.multi('Split', [x, graph.ints(norm.map(() => headDim))], heads, { axis: -1 });
      const normed = parts.map((part, head) => sites.norm(part, norm[head]!)); // [rows, headDim] each, grouped or not
      return graph.op('Concat', normed, { axis: -1 });
    }
    const [width, parts] = attention.normWhole ? [heads * headDim, 1] : [headDim, heads];
    const apart = graph.op('Reshape', [x, graph.ints([-1, width])]);
    return sites.flatNorm(graph.known(apart, [`rows*${parts}`, width]), norm);
  };
  const prepare = (x: Value, heads: number, norm: HeadNorms | undefined): Value => {
    const y = norm === undefined ? x : normalise(x, heads, norm);
    return emitRotary(graph, spec, attention, y, heads, inputs);
  };
  const newKeys = prepare(k, kvHeads, attention.kNorm);
  const { shapes } = inputs;
  const group = queryHeads / kvHeads;
  const reshaped = (x: Value, shape: Value, dims: readonly Dim[]) => graph.known(graph.op('Reshape', [x, shape]), dims);
  const perKey = ['sequence', 'batch', kvHeads, headDim];
  const perHead = ['batch', kvHeads, 'merged', headDim]; // merged = group * sequence
  const query = prepare(q, queryHeads, attention.qNorm);
  if (attention.rope !== undefined) graph.known(query, [1, 'rows', queryHeads * headDim]);
  const rotated = reshaped(query, shapes.query, ['sequence', 'batch', kvHeads, group, headDim]);
  // The queries that share a kv head become the rows of one product, so each key is read once for all of them.
  const byHead = graph.op('Transpose', [rotated], { perm: [1, 2, 3, 0, 4] }); // [B, KV, G, S, HD]
  const queries = reshaped(byHead, shapes.merged, perHead);
  const keys = reshaped(newKeys, shapes.key, perKey);
  const values = reshaped(v, shapes.key, perKey);

  const weights = (last: string) => ['batch', kvHeads, 'merged', last];
  const score = (against: Value, last: string) => {
    const attributes = { transBatchB: 1, transB: 1, alpha: float(attention.scale) };
    return graph.known(graph.contrib('FusedMatMul', [queries, against], attributes), weights(last));
  };
  const bothScores = [score(pastKeys, 'past'), score(keys, 'sequence')];
  let scores = graph.known(graph.op('Concat', bothScores, { axis: -1 }), weights('all')); // all = past + sequence
  if (attention.softcap !== undefined) {
    const cap = graph.scalar(attention.softcap);
    scores = graph.op('Mul', [graph.op('Tanh', [graph.op('Div', [scores, cap])]), cap]);
  }
  const masked = graph.op('Add', [scores, inputs.mask(attention.window ?? 0)]);
  const [overPast, overNew] = graph.multi('Split', [graph.op('Softmax', [masked], { axis: -1 }), inputs.split], 2, {
    axis: -1,
  });
  graph.known(overPast!, weights('past'));
  graph.known(overNew!, weights('sequence'));
  const weigh = (shares: Value, against: Value) =>
    graph.known(graph.contrib('FusedMatMul', [shares, against], { transBatchB: 1 }), perHead);
  const mixed = graph.op('Add', [weigh(overPast!, pastValues), weigh(overNew!, values)]); // [B, KV, G*S, HD]
  const apart = reshaped(mixed, shapes.context, ['batch', kvHeads, group, 'sequence', headDim]);
  const ordered = graph.op('Transpose', [apart], { perm: [3, 0, 1, 2, 4] }); // [S, B, KV, G, HD]
  return { context: sites.asRows(ordered, queryHeads * headDim), keys: newKeys, values: v };
}

function isPerHead(norm: HeadNorms): norm is readonly NormSpec[] {
  return Array.isArray(norm);
}
