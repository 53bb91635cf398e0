/** What a step on a WebGPU device runs: its tokens, their embeddings, and the graph that serves them. */
import type { GraphVariant } from '../../model/graph-sites.js';
import { adaptEmbedding } from '../adapted-embedding.js';
import type { DecodeSlot } from '../backend.js';
import type { EmbeddingTable } from '../embedding-table.js';
import { BASE_ROW, type RowAdapter } from '../row-adapter.js';

/** A step's tokens, in the order [batch, sequence]. */
export interface Step {
  readonly batch: number;
  readonly ids: readonly number[];
  readonly positions: Int32Array;
  /** Past positions by slot; 0 for a free one. */
  readonly lengths: Int32Array;
  /** One selection for all rows, or one for each. */
  readonly adapters: readonly RowAdapter[];
  readonly logitRows: readonly number[];
  readonly horizonOf: (token: number) => number;
}

/** One token for each slot. A free slot writes its first position again and again, where nobody reads. */
export function decodeStep(slots: readonly (DecodeSlot | undefined)[]): Step {
  const lengths = Int32Array.from(slots, (slot) => slot?.length ?? 0);
  const live = slots.filter((slot) => slot !== undefined).map(({ adapter }) => adapter);
  const same = live.every(({ key }) => key === live[0]!.key);
  return {
    batch: slots.length,
    ids: slots.map((slot) => slot?.token ?? 0),
    positions: lengths,
    lengths,
    adapters: same ? [live[0] ?? BASE_ROW] : slots.map((slot) => slot?.adapter ?? BASE_ROW),
    logitRows: slots.map((_, slot) => slot),
    horizonOf: (slot) => slots[slot]?.horizon ?? 0,
  };
}

/** Embedding rows [tokens, hidden]; a row's selection may change its own. */
export function embedded(table: EmbeddingTable, { batch, ids, positions, adapters }: Step): Float32Array {
  const { hidden } = table;
  const sequence = ids.length / batch;
  const rows = new Float32Array(ids.length * hidden);
  for (const [i, id] of ids.entries()) {
    const { embeddings } = adapters.length === 1 ? adapters[0]! : adapters[Math.floor(i / sequence)]!;
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
