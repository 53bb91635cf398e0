/** Inputs of a step that depend on positions only: shapes, rotary tables, masks. */

import { frequenciesFor } from '../model/rope.js';
import type { DecoderSpec, RopeSpec } from '../model/spec.js';
import * as ort from './ort.js';

/** int64 tensor of one axis. */
export function int64(values: readonly number[], dims: readonly number[] = [values.length]): ort.Tensor {
  return new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}

/** What a step's tokens are: `sequence` tokens for each of `batch` slots, in the order [sequence, batch]. */
export interface StepShape {
  readonly sequence: number;
  readonly batch: number;
  /** Past positions fed, the same for all slots (masked where a slot's past is shorter). */
  readonly past: number;
}

/** Shape inputs of the graph. */
export function shapeFeeds(spec: DecoderSpec, { sequence, batch, past }: StepShape): Record<string, ort.Tensor> {
  const { kvHeads, queryHeads, headDim } = spec;
  const group = queryHeads / kvHeads;
  return {
    'shape.query': int64([sequence, batch, kvHeads, group, headDim]),
    'shape.context': int64([batch, kvHeads, group, sequence, headDim]),
    'shape.merged': int64([batch, kvHeads, group * sequence, headDim]),
    'shape.key': int64([sequence, batch, kvHeads, headDim]),
    split: int64([past, sequence]),
  };
}

/**
 * cos and sin rows [rows, rotaryDim / 2] for the positions of the step's tokens.
 * @param horizonOf most tokens that the row of the i-th token may come to hold
 */
export function ropeFeeds(
  ropes: readonly RopeSpec[],
  positions: Int32Array,
  horizonOf: (token: number) => number,
): Record<string, ort.Tensor> {
  if (ropes.length === 0) return {};
  const rows = positions.length;
  const feeds: Record<string, ort.Tensor> = {
    pos: new ort.Tensor(
      'int64',
      BigInt64Array.from({ length: rows }, (_, i) => BigInt(i)),
      [1, rows],
    ),
  };
  for (const [index, rope] of ropes.entries()) {
    const { attentionScale, rotaryDim } = rope;
    const half = rotaryDim / 2;
    const cos = new Float32Array(rows * half);
    const sin = new Float32Array(rows * half);
    let horizon: number | undefined;
    let frequencies = rope.inverseFrequency;
    for (let row = 0; row < rows; row += 1) {
      if (rope.beyond !== undefined && horizonOf(row) !== horizon) {
        horizon = horizonOf(row);
        frequencies = frequenciesFor(rope, horizon);
      }
      for (let i = 0; i < half; i += 1) {
        // The reference multiplies position and frequency in float32; doing the same keeps its rounding.
        const angle = Math.fround(positions[row]! * Math.fround(frequencies[i]!));
        cos[row * half + i] = Math.cos(angle) * attentionScale;
        sin[row * half + i] = Math.sin(angle) * attentionScale;
      }
    }
    feeds[`cos.${index}`] = new ort.Tensor('float32', cos, [rows, half]);
    feeds[`sin.${index}`] = new ort.Tensor('float32', sin, [rows, half]);
  }
  return feeds;
}

/**
 * Additive mask [batch, 1, group * sequence, past + sequence], the same for the `group` query heads of a kv head; for a
 * single token the third axis is 1 and broadcasts.
 * @param lengths past positions of each slot that are real; -1 = free slot (sees only itself, so that nothing is NaN)
 * @param group query heads per kv head
 * @param window newest positions seen, the token itself included; 0 = all
 */
export function maskTensor(
  { sequence, batch, past }: StepShape,
  lengths: Int32Array,
  group: number,
  window: number,
): ort.Tensor {
  const all = past + sequence;
  const copies = sequence === 1 ? 1 : group;
  const slotSize = copies * sequence * all;
  const mask = new Float32Array(batch * slotSize).fill(Number.NEGATIVE_INFINITY);
  for (let slot = 0; slot < batch; slot += 1) {
    const length = Math.max(0, lengths[slot]!);
    const start = slot * slotSize;
    for (let s = 0; s < sequence; s += 1) {
      const row = start + s * all;
      const firstSeen = window === 0 ? 0 : Math.max(0, length + s - window + 1);
      if (firstSeen < length) mask.fill(0, row + firstSeen, row + length);
      mask.fill(0, row + past + Math.max(0, firstSeen - length), row + past + s + 1);
    }
    for (let copy = 1; copy < copies; copy += 1) {
      mask.copyWithin(start + copy * sequence * all, start, start + sequence * all);
    }
  }
  return new ort.Tensor('float32', mask, [batch, 1, copies * sequence, all]);
}
