/**
 * What a row's selection amounts to for the engine: per linear one low-rank pair, made of the selected adapters side by
 * side along the rank. A single adapter of weight 1 is used as it was loaded, without a copy.
 */
import type { BoundAdapter } from '../adapters/types.js';

/** One linear's update for one selection: y += (x a^T) b. */
export interface LowRank {
  readonly rank: number;
  /** [rank, in] */
  readonly a: Float32Array;
  /** [rank, out], scaling and weights multiplied in. */
  readonly b: Float32Array;
}

/** A selection made ready. */
export interface RowAdapter {
  /** Equal keys mean equal selections, order included. '' is the base. */
  readonly key: string;
  /** By module path; modules that no selected adapter touches are absent. */
  readonly linears: ReadonlyMap<string, LowRank>;
}

/** The base model's "selection". */
export const BASE_ROW: RowAdapter = { key: '', linears: new Map() };

/** Names a selection: digests with weights. */
export function selectionKey(selection: readonly { readonly digest: string; readonly weight: number }[]): string {
  return selection.map(({ digest, weight }) => `${digest}*${weight}`).join('+');
}

/** The exact weighted sum of the adapters' updates: ranks side by side, each b times its weight. */
export function combine(parts: readonly { readonly adapter: BoundAdapter; readonly weight: number }[]): RowAdapter {
  const key = selectionKey(parts.map(({ adapter, weight }) => ({ digest: adapter.digest, weight })));
  const grouped = new Map<string, { a: Float32Array; b: Float32Array; rank: number; weight: number }[]>();
  for (const { adapter, weight } of parts) {
    if (weight === 0) continue;
    for (const { module, rank, a, b } of adapter.linears) {
      if (rank === 0) continue;
      const list = grouped.get(module);
      if (list === undefined) grouped.set(module, [{ a, b, rank, weight }]);
      else list.push({ a, b, rank, weight });
    }
  }
  const linears = new Map<string, LowRank>();
  for (const [module, list] of grouped) linears.set(module, stack(list));
  return { key, linears };
}

function stack(list: readonly { a: Float32Array; b: Float32Array; rank: number; weight: number }[]): LowRank {
  const [only] = list;
  if (list.length === 1 && only!.weight === 1) return only!;
  const rank = list.reduce((sum, part) => sum + part.rank, 0);
  const a = new Float32Array(list.reduce((sum, part) => sum + part.a.length, 0));
  const b = new Float32Array(list.reduce((sum, part) => sum + part.b.length, 0));
  let atA = 0;
  let atB = 0;
  for (const part of list) {
    a.set(part.a, atA);
    for (let i = 0; i < part.b.length; i += 1) b[atB + i] = part.b[i]! * part.weight;
    atA += part.a.length;
    atB += part.b.length;
  }
  return { rank, a, b };
}
