/**
 * The extra inputs of the `full` graph: per linear a gain and a bias, per norm a weight, each for one group of rows
 * ([1, 1, width]) or for every slot ([slots, 1, width]). What no row changes is fed as its neutral value.
 */

import type { DecoderGraph } from '../model/decoder-graph.js';
import { siteInputs } from '../model/graph-sites.js';
import * as ort from './ort.js';
import type { RowAdapter } from './row-adapter.js';

const ONE = new ort.Tensor('float32', Float32Array.of(1), [1, 1, 1]);
const ZERO = new ort.Tensor('float32', Float32Array.of(0), [1, 1, 1]);

/** Inputs for `adapters`: a single one for all rows, or one per slot. */
export function vectorFeeds(graph: DecoderGraph, adapters: readonly RowAdapter[]): Record<string, ort.Tensor> {
  const feeds: Record<string, ort.Tensor> = {};
  for (const { module, outFeatures } of graph.linears) {
    const gains = adapters.map((adapter) => adapter.gains.get(module));
    const biases = adapters.map((adapter) => adapter.biases.get(module));
    feeds[siteInputs.gain(module)] = gains.some(Boolean) ? perGroup(gains, outFeatures, (row) => row.fill(1)) : ONE;
    feeds[siteInputs.bias(module)] = biases.some(Boolean) ? perGroup(biases, outFeatures, () => {}) : ZERO;
  }
  for (const { norm, weight, bias } of graph.norms) {
    // A family that stores norm weights as offsets from 1 does so in adapters, too.
    const shift = norm.plusOne ? 1 : 0;
    const weights = adapters.map((adapter) => adapter.norms.get(norm.module)?.map((value) => value + shift));
    feeds[siteInputs.norm(norm.module)] = replacedOr(weight, weights);
    if (bias === undefined) continue;
    const biases = adapters.map((adapter) => adapter.normBiases.get(norm.module));
    feeds[siteInputs.normBias(norm.module)] = replacedOr(bias, biases);
  }
  return feeds;
}

/** The base's own values for all groups, unless a row replaces them. */
function replacedOr(own: Float32Array, rows: readonly (Float32Array | undefined)[]): ort.Tensor {
  if (!rows.some(Boolean)) return new ort.Tensor('float32', own, [1, 1, own.length]);
  return perGroup(rows, own.length, (row) => row.set(own));
}

/** [groups, 1, width] of the given rows; `neutral` fills those of groups that have none. */
function perGroup(
  rows: readonly (Float32Array | undefined)[],
  width: number,
  neutral: (row: Float32Array) => void,
): ort.Tensor {
  const values = new Float32Array(rows.length * width);
  for (const [group, row] of rows.entries()) {
    if (row === undefined) neutral(values.subarray(group * width, (group + 1) * width));
    else values.set(row, group * width);
  }
  return new ort.Tensor('float32', values, [rows.length, 1, width]);
}
