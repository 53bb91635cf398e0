/**
 * Undoes the order of rows in which llama.cpp stores q and k of its `llama` architecture: within a head, row 2 i + j
 * there is row j * headDim / 2 + i in the Hugging Face model.
 */

/** For every row of the Hugging Face order, the row of the file that it comes from. */
export function ropeRowOrder(rows: number, headDim: number): Uint32Array {
  const order = new Uint32Array(rows);
  const half = headDim / 2;
  for (let row = 0; row < rows; row += 1) {
    const within = row % headDim;
    order[row] = row - within + 2 * (within % half) + (within >= half ? 1 : 0);
  }
  return order;
}

/** Values [rows, width] in the order of the Hugging Face model. Rows must be a multiple of an even `headDim`. */
export function undoRopeRows(values: Float32Array, rows: number, headDim: number): Float32Array {
  const width = values.length / rows;
  const ordered = new Float32Array(values.length);
  for (const [row, from] of ropeRowOrder(rows, headDim).entries()) {
    ordered.set(values.subarray(from * width, (from + 1) * width), row * width);
  }
  return ordered;
}
