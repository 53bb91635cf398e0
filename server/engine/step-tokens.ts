/** What a step reads, on any device: its tokens, their embeddings, and which graph serves them. */
import type { GraphVariant } from '../model/graph-sites.js';
import { adaptEmbedding } from './adapted-embedding.js';
import type { EmbeddingTable } from './embedding-table.js';
import type { RowAdapter } from './row-adapter.js';

/** The tokens of a step, in the order of its device. */
export interface StepTokens {
  readonly ids: readonly number[];
  readonly positions: Int32Array;
  /** One selection for all tokens, or several for as many tokens each, in the tokens' order. */
  readonly adapters: readonly RowAdapter[];
  readonly logitRows: readonly number[];
  readonly horizonOf: (token: number) => number;
}

/** Embedding rows [tokens, hidden]; a token's selection may change its own. */
export function embedded(table: EmbeddingTable, { ids, positions, adapters }: StepTokens): Float32Array {
  const { hidden } = table;
  const tokensEach = ids.length / adapters.length;
  const rows = new Float32Array(ids.length * hidden);
  for (const [i, id] of ids.entries()) {
    const { embeddings } = adapters[Math.floor(i / tokensEach)]!;
    table.row(id, rows, i * hidden);
    if (embeddings.length > 0) adaptEmbedding(embeddings, id, rows.subarray(i * hidden, (i + 1) * hidden));
    table.finish(positions[i]!, rows, i * hidden);
  }
  return rows;
}

/** The smallest graph that can serve all rows of a step. */
export function variantFor(adapters: readonly RowAdapter[]): GraphVariant {
  if (adapters.some((adapter) => adapter.needsFullGraph)) return 'full';
  return adapters.some(({ linears }) => linears.size > 0) ? 'lora' : 'base';
}
