/** Token embeddings, kept as stored (bf16, f16, f32) and widened row by row when a step needs them. */
import { convertToFloat32, isFloatDtype } from '../adapters/tensor-dtype.js';
import { AppError } from '../errors.js';
import type { ModelFolder } from '../model/model-folder.js';

/** Fills rows of the graph's `embeds` input. */
export class EmbeddingTable {
  readonly hidden: number;
  readonly #bytes: Uint8Array;
  readonly #rowBytes: number;
  readonly #dtype: Parameters<typeof convertToFloat32>[1];
  readonly #scale: number;
  readonly #positions: Float32Array | undefined;

  private constructor(
    hidden: number,
    bytes: Uint8Array,
    dtype: Parameters<typeof convertToFloat32>[1],
    scale: number,
    positions: Float32Array | undefined,
  ) {
    this.hidden = hidden;
    this.#bytes = bytes;
    this.#dtype = dtype;
    this.#scale = scale;
    this.#positions = positions;
    this.#rowBytes = hidden * (dtype === 'F32' ? 4 : dtype === 'F64' ? 8 : 2);
  }

  /** Reads the table (and learned positions where the model has them). */
  static async read(folder: ModelFolder): Promise<EmbeddingTable> {
    const { embedding, hiddenSize } = folder.spec;
    const positions =
      embedding.positions === undefined ? undefined : await folder.checkpoint.readFloat32(embedding.positions.weight);
    const merged = folder.checkpoint.changed?.get(embedding.weight);
    if (merged !== undefined) {
      const bytes = new Uint8Array(merged.buffer, merged.byteOffset, merged.byteLength);
      return new EmbeddingTable(hiddenSize, bytes, 'F32', embedding.scale, positions);
    }
    const { file, info } = folder.checkpoint.find(embedding.weight);
    if (!isFloatDtype(info.dtype))
      throw new AppError('MODEL_INVALID', `tensor ${info.name} is stored as ${info.dtype}`);
    return new EmbeddingTable(hiddenSize, await file.readRaw(info.name), info.dtype, embedding.scale, positions);
  }

  /** The token's stored row, unscaled, into `target` at `at` (in floats). */
  row(id: number, target: Float32Array, at: number): void {
    convertToFloat32(this.#bytes.subarray(id * this.#rowBytes, (id + 1) * this.#rowBytes), this.#dtype, target, at);
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
