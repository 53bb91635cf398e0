/**
 * Whether this processor multiplies unsigned with signed bytes exactly. x64 processors without VNNI add pairs of products
 * in 16 bits, which saturates; their results would be silently wrong.
 */
import * as ort from 'onnxruntime-node';
import { GraphBuilder } from '../model/onnx-graph.js';

/** Inner size and columns of the check: large enough for every kernel that onnxruntime may choose. */
const INNER = 256;
const COLUMNS = 64;

let known: Promise<boolean> | undefined;

/** True if products of the largest bytes come out exactly, for one row and for many. Decided once in a process. */
export function integerProductsAreExact(): Promise<boolean> {
  known ??= check();
  return known;
}

async function check(): Promise<boolean> {
  const graph = new GraphBuilder();
  const x = graph.input('x', 'uint8', ['rows', INNER]);
  // Columns of +127 and -127 in turn, so that sums overflow 16 bits in either direction.
  const weights = Int8Array.from({ length: INNER * COLUMNS }, (_, i) => (i % 2 === 0 ? 127 : -127));
  const location = 'check.bin';
  graph.external('w', 'int8', [INNER, COLUMNS], { location, offset: 0, length: weights.length });
  const scales = graph.floats('scales', new Float32Array(COLUMNS).fill(1), [COLUMNS]);
  const y = graph.contrib('MatMulIntegerToFloat', [x, 'w', graph.scalar(1), scales, graph.byte(0)]);
  graph.output(y, 'float32', ['rows', COLUMNS]);
  const session = await ort.InferenceSession.create(graph.finish('check'), {
    executionProviders: ['cpu'],
    intraOpNumThreads: 1,
    externalData: [{ path: location, data: new Uint8Array(weights.buffer) }],
    extra: { session: { set_denormal_as_zero: '1' } },
  });
  try {
    for (const rows of [1, 4, 32]) {
      const feeds = { x: new ort.Tensor('uint8', new Uint8Array(rows * INNER).fill(255), [rows, INNER]) };
      const sums = (await session.run(feeds))[y]!.data as Float32Array;
      if (sums.some((sum, i) => sum !== (i % 2 === 0 ? 1 : -1) * 127 * 255 * INNER)) return false;
    }
    return true;
  } finally {
    await session.release();
  }
}
