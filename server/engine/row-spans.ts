/**
 * Which adapters apply from which position of a row on. Plain adapters apply from the start; the low-rank matrices of an
 * activated one (aLoRA) from the last occurrence of its invocation tokens in the prompt, and nowhere if they do not occur.
 * What such an adapter replaces besides applies from the start.
 */
import type { BoundAdapter } from '../adapters/types.js';
import { appliesAlways, type RowAdapter, type WeightedAdapter } from './row-adapter.js';

/** A stretch of positions with one set of adapters; it lasts until the next stretch begins. */
export interface AdapterSpan {
  readonly from: number;
  readonly adapter: RowAdapter;
}

/** First position at which the adapter applies; Infinity = never. */
export function activationPoint(adapter: BoundAdapter, promptIds: readonly number[]): number {
  const tokens = adapter.invocationTokens;
  if (tokens === undefined) return 0;
  for (let start = promptIds.length - tokens.length; start >= 0; start -= 1) {
    if (tokens.every((token, i) => promptIds[start + i] === token)) return start;
  }
  return Number.POSITIVE_INFINITY;
}

/** What of a part applies at a position. */
function appliedAt<T extends WeightedAdapter & { readonly from: number }>(
  part: T,
  position: number,
): WeightedAdapter[] {
  if (part.from <= position) return [part];
  return appliesAlways(part.adapter) ? [{ ...part, idle: true }] : [];
}

/** Cuts a row at the points where adapters begin. The first span begins at 0, with the base if nothing applies yet. */
export function spansOf(
  parts: readonly (WeightedAdapter & { readonly from: number })[],
  combineActive: (active: readonly WeightedAdapter[]) => RowAdapter,
): AdapterSpan[] {
  const points = [...new Set([0, ...parts.map(({ from }) => from).filter(Number.isFinite)])].sort((x, y) => x - y);
  return points.map((from) => ({ from, adapter: combineActive(parts.flatMap((part) => appliedAt(part, from))) }));
}
