/**
 * A fixed orthogonal change of basis for what a linear reads, so that a few large values spread over many before they are
 * rounded: x W = (x R)(R^T W). R is a Hadamard matrix on every block of 64 values; where a length has no such blocks, the
 * smaller blocks are mixed with one another as well. The idea is QuaRot's (arXiv 2404.00456), at each linear on its own
 * rather than on the residual stream, so that norms, adapters and families need not know of it.
 */

/** Values in a block: enough to spread an outlier, few enough that the product costs little beside the linear's own. */
const FULL_BLOCK = 64;

/** How a vector is taken apart. */
export interface RotationShape {
  /** Values in a block, a power of two. */
  readonly block: number;
  readonly blocks: number;
  /** True: the blocks are too small to spread much, so they are mixed, too (their number is odd then). */
  readonly mixed: boolean;
}

/** The shape for vectors of `length` values; every length has one. */
export function rotationShape(length: number): RotationShape {
  const block = Math.min(length & -length, FULL_BLOCK);
  const blocks = length / block;
  return { block, blocks, mixed: block < FULL_BLOCK && blocks > 1 };
}

/** The symmetric orthogonal Hadamard matrix [n, n] (Sylvester's), n a power of two. */
export function hadamard(n: number): Float32Array {
  const matrix = new Float32Array(n * n);
  matrix[0] = 1 / Math.sqrt(n);
  for (let half = 1; half < n; half *= 2) {
    for (let i = 0; i < half; i += 1) {
      for (let j = 0; j < half; j += 1) {
        const value = matrix[i * n + j]!;
        matrix[i * n + j + half] = value;
        matrix[(i + half) * n + j] = value;
        matrix[(i + half) * n + j + half] = -value;
      }
    }
  }
  return matrix;
}

/** The orthogonal matrix [n, n] that mixes n blocks: the cosine transform DCT-II. */
export function cosines(n: number): Float32Array {
  const matrix = new Float32Array(n * n);
  for (let k = 0; k < n; k += 1) {
    const size = Math.sqrt((k === 0 ? 1 : 2) / n);
    for (let i = 0; i < n; i += 1) matrix[k * n + i] = size * Math.cos((Math.PI * (2 * i + 1) * k) / (2 * n));
  }
  return matrix;
}

/** Rotates every row of `values` [rows, length] in place. */
export function rotateRows(values: Float32Array, length: number): void {
  const { block, blocks, mixed } = rotationShape(length);
  const size = 1 / Math.sqrt(block);
  for (let at = 0; at < values.length; at += block) {
    transform(values, at, at + block);
    for (let i = at; i < at + block; i += 1) values[i]! *= size;
  }
  if (!mixed) return;
  const matrix = cosines(blocks);
  for (let row = 0; row < values.length; row += length) mix(values.subarray(row, row + length), matrix, block);
}

/** The fast Walsh-Hadamard transform of values[from..end), not scaled. */
function transform(values: Float32Array, from: number, end: number): void {
  for (let half = 1; half < end - from; half *= 2) {
    for (let start = from; start < end; start += 2 * half) {
      for (let at = start; at < start + half; at += 1) {
        const x = values[at]!;
        const y = values[at + half]!;
        values[at] = x + y;
        values[at + half] = x - y;
      }
    }
  }
}

/** Multiplies one row, seen as [blocks, block], by `matrix` [blocks, blocks] from the left, in place. */
function mix(row: Float32Array, matrix: Float32Array, block: number): void {
  const before = row.slice();
  const blocks = row.length / block;
  for (let k = 0; k < blocks; k += 1) {
    for (let j = 0; j < block; j += 1) {
      let sum = 0;
      for (let i = 0; i < blocks; i += 1) sum += matrix[k * blocks + i]! * before[i * block + j]!;
      row[k * block + j] = sum;
    }
  }
}
