/** Inputs of a GPU step that say where its tokens stand: lengths, places in the caches, masks. */

import { gpuMaskInput } from '../../model/webgpu/gpu-attention.js';
import type { GpuGraph } from '../../model/webgpu/gpu-graph.js';
import { toHalf } from '../../model/webgpu/gpu-precision.js';
import * as ort from '../ort.js';
import { int64 } from '../step-inputs.js';
import { placesTensor } from './gpu-caches.js';

/** What a masked score is lowered by: far beyond any score, and finite in 16 bits. */
const MASKED = -60_000;

/**
 * @param lengths past positions by slot
 * @param sequence new tokens of each slot
 * @param capacity positions of a slot in the caches
 */
export function placeFeeds(
  { kvHeads, type }: { readonly kvHeads: number; readonly type: 'float32' | 'float16' },
  graph: Pick<GpuGraph, 'inputs' | 'windows'>,
  lengths: Int32Array,
  sequence: number,
  capacity: number,
): Record<string, ort.Tensor> {
  const batch = lengths.length;
  const feeds: Record<string, ort.Tensor> = {};
  if (graph.inputs.has('shape')) feeds.shape = int64([batch, sequence, -1]);
  if (graph.inputs.has('lengths')) {
    const last = lengths.map((length) => length + sequence - 1);
    feeds.lengths = new ort.Tensor('int32', last, [batch]);
    feeds.total = new ort.Tensor('int32', Int32Array.of(Math.max(...last) + 1), [1]);
  }
  if (graph.inputs.has('places')) {
    feeds.places = placesTensor(batch * sequence * kvHeads, 3, (i) => {
      const token = Math.floor(i / kvHeads);
      const slot = Math.floor(token / sequence);
      return [slot, i % kvHeads, lengths[slot]! + (token % sequence)];
    });
  }
  for (const window of graph.windows) {
    const mask = new Float32Array(batch * sequence * capacity).fill(MASKED);
    for (let slot = 0; slot < batch; slot += 1) {
      for (let s = 0; s < sequence; s += 1) {
        const row = (slot * sequence + s) * capacity;
        const end = lengths[slot]! + s + 1;
        mask.fill(0, row + (window === 0 ? 0 : Math.max(0, end - window)), row + end);
      }
    }
    const dims = [batch, 1, 1, sequence, capacity];
    const data = type === 'float16' ? toHalf(mask, 'the mask') : mask;
    feeds[gpuMaskInput(window)] = new ort.Tensor(type as 'float32', data as Float32Array, dims);
  }
  return feeds;
}
