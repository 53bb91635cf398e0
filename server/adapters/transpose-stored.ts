/** Matrices as they are stored, turned over on their way to float32. */
import { convertToFloat32, DTYPE_BITS, type FloatDtype, toFloat32 } from './tensor-dtype.js';
import { BLOCK, transposeBlock, transposeInto } from './transpose.js';

/** Where a block of rows is widened before it is turned: small enough for the processor's first cache at usual ranks. */
const scratch = new Float32Array(BLOCK * 64);

/**
 * Writes a stored matrix [rows, columns] into `result` as [columns, rows], multiplied by `scale`.
 * @param bytes the whole matrix, aligned to its elements' size
 */
export function transposeStored(
  result: Float32Array,
  bytes: Uint8Array,
  dtype: FloatDtype,
  rows: number,
  columns: number,
  scale: number,
): void {
  if (dtype === 'F32' || columns * BLOCK > scratch.length) {
    transposeInto(result, toFloat32(bytes, dtype), rows, columns, scale);
    return;
  }
  const rowBytes = (columns * DTYPE_BITS[dtype]) / 8;
  for (let begin = 0; begin < rows; begin += BLOCK) {
    const count = Math.min(BLOCK, rows - begin);
    convertToFloat32(bytes.subarray(begin * rowBytes, (begin + count) * rowBytes), dtype, scratch, 0);
    transposeBlock(result, { values: scratch, begin, count }, rows, columns, scale);
  }
}
