/** Matrices turned over. */

/** Rows that are turned at a time, so that what is read and what is written stays in the processor's first cache. */
export const BLOCK = 64;

/** Rows of a matrix that is turned over block by block. */
export interface RowBlock {
  /** [count, columns], contiguous. */
  readonly values: Float32Array;
  /** The first row's number. */
  readonly begin: number;
  readonly count: number;
}

/**
 * Writes at most {@link BLOCK} rows of a matrix [rows, columns] into `result` [columns, rows], multiplied by `scale`, which is
 * rounded to float32 first, as PyTorch does with a number that multiplies float32. Four
 * columns go at once: each row's numbers lie side by side, and reading them together costs as much as reading one.
 */
export function transposeBlock(
  result: Float32Array,
  { values, begin, count }: RowBlock,
  rows: number,
  columns: number,
  scale: number,
): void {
  const factor = Math.fround(scale);
  const fours = columns - (columns % 4);
  for (let column = 0; column < fours; column += 4) {
    const first = column * rows + begin;
    const second = first + rows;
    const third = second + rows;
    const fourth = third + rows;
    for (let row = 0, from = column; row < count; row += 1, from += columns) {
      result[first + row] = values[from]! * factor;
      result[second + row] = values[from + 1]! * factor;
      result[third + row] = values[from + 2]! * factor;
      result[fourth + row] = values[from + 3]! * factor;
    }
  }
  for (let column = fours; column < columns; column += 1) {
    const to = column * rows + begin;
    for (let row = 0; row < count; row += 1) result[to + row] = values[row * columns + column]! * factor;
  }
}

/** Writes `values` [rows, columns] into `result` as [columns, rows], multiplied by `scale`. */
export function transposeInto(
  result: Float32Array,
  values: Float32Array,
  rows: number,
  columns: number,
  scale: number,
): void {
  for (let begin = 0; begin < rows; begin += BLOCK) {
    const count = Math.min(BLOCK, rows - begin);
    const block = values.subarray(begin * columns, (begin + count) * columns);
    transposeBlock(result, { values: block, begin, count }, rows, columns, scale);
  }
}

/** Transposes [rows, columns] to [columns, rows], multiplying by `scale`. */
export function transpose(values: Float32Array, rows: number, columns: number, scale = 1): Float32Array {
  const result = new Float32Array(values.length);
  transposeInto(result, values, rows, columns, scale);
  return result;
}
