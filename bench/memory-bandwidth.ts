/** How fast this machine reads memory that no cache holds, with the threads that the engine uses. */
import * as ort from '../server/engine/ort.js';
import { GraphBuilder } from '../server/model/onnx-graph.js';

const MIB = 1 << 20;

/** Bytes per second: the best of several sums over 256 MiB of floats. */
export async function memoryBandwidth(threads: number): Promise<number> {
  const rows = 64;
  const columns = MIB;
  const graph = new GraphBuilder();
  const x = graph.input('x', 'float32', [rows, columns]);
  const sum = graph.output(graph.op('ReduceSum', [x, graph.ints([1])], { keepdims: 0 }), 'float32', [rows]);
  const session = await ort.InferenceSession.create(graph.finish('bandwidth'), { intraOpNumThreads: threads });
  const feeds = { x: new ort.Tensor('float32', new Float32Array(rows * columns).fill(1), [rows, columns]) };
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 12; round += 1) {
    const start = performance.now();
    await session.run(feeds, [sum]);
    best = Math.min(best, performance.now() - start);
  }
  await session.release();
  return (rows * columns * 4 * 1000) / best;
}
