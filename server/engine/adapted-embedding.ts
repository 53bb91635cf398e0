import type { RowAdapter } from './row-adapter.js';

/**
 * Applies a selection to one token's embedding row [hidden], before the model's own factor: a replaced table or replaced
 * rows first, then low-rank updates (row of A times B), then the gains of DoRA, which is never one of several.
 */
export function adaptEmbedding(embeddings: RowAdapter['embeddings'], id: number, row: Float32Array): void {
  const hidden = row.length;
  for (const { embedding } of embeddings) {
    const replaced = embedding.rows?.get(id) ?? embedding.replaced?.subarray(id * hidden, (id + 1) * hidden);
    if (replaced !== undefined) row.set(replaced);
  }
  for (const { weight, embedding } of embeddings) {
    if (embedding.lora === undefined) continue;
    const { rank, a, b, gain } = embedding.lora;
    for (let r = 0; r < rank; r += 1) {
      const factor = a[id * rank + r]! * weight;
      for (let i = 0; i < hidden; i += 1) row[i]! += factor * b[r * hidden + i]!;
    }
    if (gain !== undefined) for (let i = 0; i < hidden; i += 1) row[i]! *= gain[i]!;
  }
}
