/**
 * Low-rank updates in pieces, for rows of many selections. A *piece* is some ranks of one selection's pair and a few of
 * its rows: what a step reads is then the pieces' weights, whatever the largest rank is and however the rows are shared
 * out, where even groups of rows (graph-sites.ts) are all as wide as the widest. A row's update is the sum of its pieces.
 *
 * Per input x [rows, in]: one row of zeros below it, then every piece's rows [pieces, members, in]. Per linear: two products
 * with a [pieces, rank, in] and b [pieces, rank, out], and for every row the sum over the results that are its own. It is a
 * choice and a sum, never a product with zeros: a row that overflows would spoil its neighbours.
 */
import type { GraphBuilder, Value } from './onnx-graph.js';
import type { LinearSpec } from './spec.js';

/** Graph inputs of all sites together. */
export const pieceInputs = {
  /** int64 [pieces, members]: rows that a piece is for; the number of rows stands for a row of zeros. */
  rows: 'pieces.rows',
  /** int64 [rows, levels]: places in [pieces * members] whose results are the row's update; all others must be zeros. */
  sums: 'pieces.sums',
} as const;

/** Emits the updates of one graph. */
export class PieceEmitter {
  readonly #graph: GraphBuilder;
  /** x by pieces, shared by the linears that read the same x. */
  readonly #chosen = new Map<Value, Value>();

  constructor(graph: GraphBuilder) {
    this.#graph = graph;
  }

  /**
   * The update of a linear for x [rows, in]: [rows, out].
   * @param a float32 [pieces, rank, in]
   * @param b float32 [pieces, rank, out]
   */
  update(x: Value, { outFeatures }: LinearSpec, a: Value, b: Value): Value {
    const graph = this.#graph;
    const hidden = graph.contrib('FusedMatMul', [this.#rowsOf(x), a], { transB: 1 }); // [pieces, members, rank]
    const results = graph.op('MatMul', [hidden, b]); // [pieces, members, out]
    const flat = graph.op('Reshape', [results, graph.ints([-1, outFeatures])]);
    const own = graph.op('Gather', [flat, pieceInputs.sums], { axis: 0 }); // [rows, levels, out]
    return graph.op('ReduceSum', [own, graph.ints([1])], { keepdims: 0 });
  }

  /** x [rows, in] as [pieces, members, in]. */
  #rowsOf(x: Value): Value {
    const known = this.#chosen.get(x);
    if (known !== undefined) return known;
    const graph = this.#graph;
    if (this.#chosen.size === 0) {
      graph.input(pieceInputs.rows, 'int64', ['pieces', 'members']);
      graph.input(pieceInputs.sums, 'int64', ['rows', 'levels']);
    }
    const padded = graph.op('Pad', [x, graph.ints([0, 0, 1, 0])]);
    const chosen = graph.op('Gather', [padded, pieceInputs.rows], { axis: 0 });
    this.#chosen.set(x, chosen);
    return chosen;
  }
}
