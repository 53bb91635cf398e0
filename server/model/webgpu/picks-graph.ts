/**
 * The graph that finds, on a WebGPU device, what greedy rows need of their logits. It is one of its own, so that steps
 * which hand out whole logits, and prompts above all, run none of it. Everything is in float32, in which every id of a
 * vocabulary is exact, whatever the model computes in.
 */
import { GraphBuilder, type Value } from '../onnx-graph.js';

/** Names and columns of the graph. */
export const picksNames = { logits: 'logits', picks: 'picks' } as const;

/** Numbers of a row's picks: id, logit, and ln(sum(exp(logits - largest))). */
export const PICK_COLUMNS = 3;

/**
 * The provider reduces fewer than 32 values in one thread, and more of them in one group of threads. So a row is cut into
 * parts that a thread each takes, and one group of threads takes what they found: a group for the whole of a row would
 * leave most of a device idle.
 */
const WIDEST = 31;
/** Parts that are narrower leave too much to the second step. */
const NARROWEST = 8;

/** No logit: below all that a head computes, and finite, as shaders need not know infinities. */
const PADDING = -1e30;
/** No id: larger than all of them. */
const NO_ID = 2 ** 24;

/** How a row of logits is cut: into parts of `width`, with `padding` numbers behind the last logit. */
export function cutRow(vocabSize: number): { readonly width: number; readonly padding: number } {
  for (let width = WIDEST; width >= NARROWEST; width -= 1) if (vocabSize % width === 0) return { width, padding: 0 };
  return { width: WIDEST, padding: WIDEST - (vocabSize % WIDEST) };
}

/** Builds the graph: float32 [rows, vocab] in, float32 [rows, PICK_COLUMNS] out. */
export function buildPicksGraph(vocabSize: number): Uint8Array {
  const graph = new GraphBuilder();
  const { width, padding } = cutRow(vocabSize);
  const parts = (vocabSize + padding) / width;
  const input = graph.input(picksNames.logits, 'float32', ['rows', vocabSize]);
  const padded =
    padding === 0 ? input : graph.op('Pad', [input, graph.ints([0, 0, 0, padding]), graph.scalar(PADDING)]);
  const logits = graph.op('Reshape', [padded, graph.ints([-1, parts, width])]);
  // [rows, parts, width] -> [rows, 1]
  const reduce = (type: string, values: Value): Value => {
    const ofParts = graph.op(type, [values, graph.ints([2])], { keepdims: 0 });
    return graph.op(type, [ofParts, graph.ints([1])], { keepdims: 1 });
  };
  const largest = reduce('ReduceMax', logits);
  const border = graph.op('Reshape', [largest, graph.ints([-1, 1, 1])]);
  // The provider sums exponentials as they are: those of logits themselves would overflow.
  const norm = reduce('ReduceLogSumExp', graph.op('Sub', [logits, border]));
  const ids = graph.floats(
    'ids',
    Float32Array.from({ length: parts * width }, (_, id) => id),
    [parts, width],
  );
  const ofLargest = graph.op('Where', [graph.op('Equal', [logits, border]), ids, graph.scalar(NO_ID)]);
  // One output: each is a copy that the host waits for.
  const columns = [reduce('ReduceMin', ofLargest), largest, norm];
  graph.output(graph.named(picksNames.picks, 'Concat', columns, { axis: 1 }), 'float32', ['rows', PICK_COLUMNS]);
  return graph.finish('gpu-picks');
}
