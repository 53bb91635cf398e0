/** Token embeddings, kept as stored (bf16, f16, f32, blocks) and widened row by row when a step needs them. */
import type { Checkpoint, StoredRows } from '../model/checkpoint.js';
import type { ModelFolder } from '../model/model-folder.js';
import type { PositionTable } from '../model/spec.js';

/** Fills rows of the graph's `embeds` input. */
export class EmbeddingTable {
  readonly hidden: number;
  readonly #rows: StoredRows;
  readonly #scale: number;
  readonly #positions: Float32Array | undefined;

  private constructor(hidden: number, rows: StoredRows, scale: number, positions: Float32Array | undefined) {
    this.hidden = hidden;
    this.#rows = rows;
    this.#scale = scale;
    this.#positions = positions;
  }

  /** Reads the table (and learned positions where the model has them). */
  static async read({ spec, checkpoint }: ModelFolder): Promise<EmbeddingTable> {
    const { embedding, hiddenSize } = spec;
    const positions = embedding.positions && (await readPositions(checkpoint, embedding.positions, hiddenSize));
    return new EmbeddingTable(hiddenSize, await checkpoint.readRows(embedding.weight), embedding.scale, positions);
  }

  /**
   * The token's stored row, unscaled, into `target` at `at` (in floats). Rows beyond the table are left as they are: the
   * adapter whose id it is writes them.
   */
  row(id: number, target: Float32Array, at: number): void {
    const { bytes, rowBytes, widen } = this.#rows;
    if ((id + 1) * rowBytes > bytes.length) return;
    widen(bytes.subarray(id * rowBytes, (id + 1) * rowBytes), target, at);
  }

  /** Applies what the model does to a row after the look-up: its factor, and the learned position. */
  finish(position: number, target: Float32Array, at: number): void {
    const { hidden } = this;
    if (this.#scale !== 1) {
      // float32 like the model code, which casts the factor before it multiplies
      const scale = Math.fround(this.#scale);
      for (let i = at; i < at + hidden; i += 1) target[i]! *= scale;
    }
    if (this.#positions !== undefined) {
      const start = position * hidden;
      for (let i = 0; i < hidden; i += 1) target[at + i]! += this.#positions[start + i]!;
    }
  }
}

/** Learned positions [contextLength, hidden], from the row of the first token on. */
async function readPositions(checkpoint: Checkpoint, { weight, first = 0 }: PositionTable, hidden: number) {
  return (await checkpoint.readFloat32(weight)).subarray(first * hidden);
}
