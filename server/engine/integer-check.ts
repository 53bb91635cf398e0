/**
 * Which weight bytes this processor multiplies exactly with unsigned ones. x64 processors without VNNI add pairs of products
 * with signed bytes in 16 bits, which saturates: results would be silently wrong. Those with unsigned bytes they widen first.
 */

import { type WeightBytes, weightType, weightZero } from '../model/column-store.js';
import { byteProduct } from '../model/graph-integer.js';
import { GraphBuilder } from '../model/onnx-graph.js';
import * as ort from './ort.js';

/** Inner size and columns of the check: large enough for every kernel that onnxruntime may choose. */
const INNER = 256;
const COLUMNS = 64;

let known: Promise<WeightBytes | undefined> | undefined;

/**
 * The bytes for weights whose products of the largest values come out exactly, for one row and for many: signed ones where
 * they do, as kernels read them faster. Undefined = neither. Decided once in a process.
 */
export function exactWeightBytes(): Promise<WeightBytes | undefined> {
  known ??= (async () => {
    if (await isExact('signed')) return 'signed';
    return (await isExact('unsigned')) ? 'unsigned' : undefined;
  })();
  return known;
}

/** Columns of +127 and -127 in turn, so that sums overflow 16 bits in either direction. */
const sign = (column: number): number => (column % 2 === 0 ? 1 : -1);

async function isExact(bytesAre: WeightBytes): Promise<boolean> {
  const graph = new GraphBuilder();
  const x = graph.input('x', 'uint8', ['rows', INNER]);
  const weights = Uint8Array.from({ length: INNER * COLUMNS }, (_, i) => sign(i) * 127 + weightZero(bytesAre));
  const location = 'check.bin';
  const bytes = { location, offset: 0, length: weights.length };
  const weight = graph.external('w', weightType(bytesAre), [INNER, COLUMNS], bytes);
  const scale = graph.floats('scales', new Float32Array(COLUMNS).fill(1), [COLUMNS]);
  const y = byteProduct(graph, x, { step: 1, zero: 0 }, { weight, scale, bytesAre });
  graph.output(y, 'float32', ['rows', COLUMNS]);
  const session = await ort.InferenceSession.create(graph.finish('check'), {
    executionProviders: ['cpu'],
    intraOpNumThreads: 1,
    externalData: [{ path: location, data: weights }],
    extra: { session: { set_denormal_as_zero: '1' } },
  });
  try {
    for (const rows of [1, 4, 32]) {
      const feeds = { x: new ort.Tensor('uint8', new Uint8Array(rows * INNER).fill(255), [rows, INNER]) };
      const sums = (await session.run(feeds))[y]!.data as Float32Array;
      if (sums.some((sum, i) => sum !== sign(i) * 127 * 255 * INNER)) return false;
    }
    return true;
  } finally {
    await session.release();
  }
}
