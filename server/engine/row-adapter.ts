/**
 * What a row's selection amounts to for the engine: per linear one low-rank pair, made of the selected adapters side by
 * side along the rank, and for a single adapter also what cannot be summed (gains, replaced norms and embeddings).
 */
import type { BoundAdapter, BoundEmbedding, OwnVocabulary } from '../adapters/types.js';

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
  /** What was selected, without what has weight 0. */
  readonly parts: readonly WeightedAdapter[];
  /** By module path; modules that no selected adapter touches are absent. */
  readonly linears: ReadonlyMap<string, LowRank>;
  /** DoRA gains [out], biases to add [out], and whole norm weights and biases [width], by module path. */
  readonly gains: ReadonlyMap<string, Float32Array>;
  readonly biases: ReadonlyMap<string, Float32Array>;
  readonly norms: ReadonlyMap<string, Float32Array>;
  readonly normBiases: ReadonlyMap<string, Float32Array>;
  /** Changes of the token embedding, with the weight of each. */
  readonly embeddings: readonly { readonly weight: number; readonly embedding: BoundEmbedding }[];
  /** The selected adapter's own vocabulary; absent = the base's. */
  readonly vocabulary?: OwnVocabulary | undefined;
  /** True: the step needs the graph with gains, biases and norms as inputs. */
  readonly needsFullGraph: boolean;
}

/** The base model's "selection". */
export const BASE_ROW: RowAdapter = {
  key: '',
  parts: [],
  linears: new Map(),
  gains: new Map(),
  biases: new Map(),
  norms: new Map(),
  normBiases: new Map(),
  embeddings: [],
  needsFullGraph: false,
};

/** An adapter of a selection and its weight. */
export interface WeightedAdapter {
  readonly adapter: BoundAdapter;
  readonly weight: number;
  /** True: an activated adapter before its invocation, of which only what always applies is there. */
  readonly idle?: boolean | undefined;
}

/** True for an activated adapter that changes something before its invocation, too. */
export function appliesAlways(adapter: BoundAdapter): boolean {
  const { invocationTokens, linears, norms, normBiases, embedding, vocabulary } = adapter;
  if (invocationTokens === undefined) return false;
  const vectors = norms.size + (normBiases?.size ?? 0);
  return (
    vectors > 0 || embedding !== undefined || vocabulary !== undefined || linears.some(({ always }) => always === true)
  );
}

/** True for adapters that change more than low-rank pairs and embeddings can express. */
export function needsFullGraph(adapter: BoundAdapter): boolean {
  return (
    adapter.norms.size > 0 ||
    (adapter.normBiases?.size ?? 0) > 0 ||
    adapter.linears.some(({ gain, biasDelta }) => gain !== undefined || biasDelta !== undefined)
  );
}

/** Bytes of a selection's low-rank pairs. */
export function lowRankBytes({ linears }: Pick<RowAdapter, 'linears'>): number {
  let sum = 0;
  for (const { a, b } of linears.values()) sum += a.byteLength + b.byteLength;
  return sum;
}

/** Names a selection: digests with weights; `~` marks an adapter before its invocation. */
export function selectionKey(parts: readonly WeightedAdapter[]): string {
  return parts.map(({ adapter, weight, idle }) => `${adapter.digest}*${weight}${idle ? '~' : ''}`).join('+');
}

/** True when a selection's key names the adapter. */
export function selects(key: string, digest: string): boolean {
  return key.split('+').some((part) => part.startsWith(`${digest}*`));
}

/** The exact weighted sum of the adapters' updates: ranks side by side, each b times its weight. */
export function combine(parts: readonly WeightedAdapter[]): RowAdapter {
  if (parts.length === 0) return BASE_ROW;
  const grouped = new Map<string, (LowRank & { weight: number })[]>();
  const gains = new Map<string, Float32Array>();
  const biases = new Map<string, Float32Array>();
  const norms = new Map<string, Float32Array>();
  const normBiases = new Map<string, Float32Array>();
  for (const { adapter, weight, idle } of parts) {
    if (weight === 0) continue;
    for (const { module, rank, a, b, gain, biasDelta, always } of adapter.linears) {
      if (idle && !always) continue;
      if (gain !== undefined) gains.set(module, gain);
      if (biasDelta !== undefined) biases.set(module, addScaled(biases.get(module), biasDelta, weight));
      if (rank === 0) continue;
      const list = grouped.get(module);
      if (list === undefined) grouped.set(module, [{ a, b, rank, weight }]);
      else list.push({ a, b, rank, weight });
    }
    for (const [module, values] of adapter.norms) norms.set(module, values);
    for (const [module, values] of adapter.normBiases ?? []) normBiases.set(module, values);
  }
  const linears = new Map<string, LowRank>();
  for (const [module, list] of grouped) linears.set(module, stack(list));
  return {
    key: selectionKey(parts),
    parts: parts.filter(({ weight }) => weight !== 0),
    linears,
    gains,
    biases,
    norms,
    normBiases,
    embeddings: parts.flatMap(({ adapter, weight }) =>
      adapter.embedding === undefined || weight === 0 ? [] : [{ weight, embedding: adapter.embedding }],
    ),
    vocabulary: vocabularyOf(parts),
    needsFullGraph: gains.size + biases.size + norms.size + normBiases.size > 0,
  };
}

/** The selected adapter's vocabulary, as it is before the invocation where that is to come. */
function vocabularyOf(parts: readonly WeightedAdapter[]): OwnVocabulary | undefined {
  const part = parts.find(({ adapter, weight }) => adapter.vocabulary !== undefined && weight !== 0);
  const own = part?.adapter.vocabulary;
  return part?.idle && own?.before !== undefined ? { ...own, ...own.before } : own;
}

function addScaled(sum: Float32Array | undefined, values: Float32Array, weight: number): Float32Array {
  if (sum === undefined && weight === 1) return values;
  return values.map((value, i) => (sum?.[i] ?? 0) + value * weight);
}

/** Ranks side by side; a single adapter of weight 1 is used as it was loaded, without a copy. */
function stack(list: readonly (LowRank & { weight: number })[]): LowRank {
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
