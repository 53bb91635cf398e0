/** Matrices turned over. */

/** Rows that are turned at a time, so that what is read and what is written stays in the processor's first cache. */
const BLOCK = 64;

/**
 * Writes `values` [rows, columns] into `result` as [columns, rows], multiplied by `scale`. Four columns go at once: each
 * row's numbers lie side by side, and reading them together costs as much as reading one.
 */
export function transposeInto(
  result: Float32Array,
  values: Float32Array,
  rows: number,
  columns: number,
  scale: number,
): void {
  const fours = columns - (columns % 4);
  for (let begin = 0; begin < rows; begin += BLOCK) {
    const end = Math.min(rows, begin + BLOCK);
    for (let column = 0; column < fours; column += 4) {
      const first = column * rows;
      const second = first + rows;
      const third = second + rows;
      const fourth = third + rows;
      for (let row = begin, from = begin * columns + column; row < end; row += 1, from += columns) {
        result[first + row] = values[from]! * scale;
        result[second + row] = values[from + 1]! * scale;
        result[third + row] = values[from + 2]! * scale;
        result[fourth + row] = values[from + 3]! * scale;
      }
    }
    for (let column = fours; column < columns; column += 1) {
      for (let row = begin; row < end; row += 1) result[column * rows + row] = values[row * columns + column]! * scale;
    }
  }
}

/** Transposes [rows, columns] to [columns, rows], multiplying by `scale`. */
export function transpose(values: Float32Array, rows: number, columns: number, scale = 1): Float32Array {
  const result = new Float32Array(values.length);
  transposeInto(result, values, rows, columns, scale);
  return result;
}
