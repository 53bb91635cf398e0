/**
 * Q8_0 blocks in the layout of onnxruntime's MatMulNBits. Both have blocks of 32 signed 8-bit values and one scale, so
 * nothing is rounded: the values move up by 128, the float16 scale is widened.
 */
import { halfAt } from '../../adapters/gguf/dequantise.js';
import type { Blocks8 } from '../quantise.js';

const BLOCK = 32;
const BLOCK_BYTES = 34;

/**
 * Splits blocks into values and scales.
 * @param raw rows of blocks: a float16 scale, then 32 signed bytes
 * @param order for every row of the result, the row that it comes from; undefined = as stored
 */
export function unpackQ8(raw: Uint8Array, rows: number, order: Uint32Array | undefined): Blocks8 {
  const blocks = raw.length / BLOCK_BYTES / rows;
  const weights = new Uint8Array(rows * blocks * BLOCK);
  const scales = new Float32Array(rows * blocks);
  for (let row = 0; row < rows; row += 1) {
    const from = order === undefined ? row : order[row]!;
    for (let block = 0; block < blocks; block += 1) {
      const at = (from * blocks + block) * BLOCK_BYTES;
      const to = row * blocks + block;
      scales[to] = halfAt(raw, at);
      // Adding 128 to a signed byte is turning its highest bit over.
      for (let i = 0; i < BLOCK; i += 1) weights[to * BLOCK + i] = raw[at + 2 + i]! ^ 128;
    }
  }
  return { weights, scales };
}
