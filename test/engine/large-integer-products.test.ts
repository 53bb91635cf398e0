/** Weights that no cache holds are read once for both levels of the input; the arithmetic is that of the others. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as ort from 'onnxruntime-node';
import { convertColumns } from '../../server/model/column-store.js';
import { integerKernel } from '../../server/model/graph-integer.js';
import { GraphBuilder } from '../../server/model/onnx-graph.js';

const LINEAR = { module: 'head', weight: 'head', inFeatures: 520, outFeatures: 8208 };
const { inFeatures, outFeatures } = LINEAR;

/** Values in -1..1 that do not repeat. */
const noise = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 78.233) ** 3);

test('products with large weights are close to float32 and the same for a row alone and beside others', async () => {
  const weight = noise(outFeatures * inFeatures, 1);
  const store = await convertColumns([[LINEAR]], async () => weight);
  const graph = new GraphBuilder();
  const x = graph.input('x', 'float32', ['rows', inFeatures]);
  const [y] = integerKernel(store).emit(graph, { x, grouped: false, bound: undefined }, [LINEAR], [undefined]);
  graph.output(y!, 'float32', ['rows', outFeatures]);
  const bytes = graph.finish('large');
  assert.match(Buffer.from(bytes).toString('latin1'), /level\.steps/, 'both levels are rows of one product');
  const session = await ort.InferenceSession.create(bytes, {
    externalData: [{ path: store.location, data: store.bytes }],
    logSeverityLevel: 3,
  });
  const run = async (rows: Float32Array): Promise<Float32Array> => {
    const feeds = { x: new ort.Tensor('float32', rows, [rows.length / inFeatures, inFeatures]) };
    return (await session.run(feeds))[y!]!.data as Float32Array;
  };
  const rows = noise(5 * inFeatures, 2);
  const together = await run(rows);
  for (let row = 0; row < 5; row += 1) {
    const input = rows.slice(row * inFeatures, (row + 1) * inFeatures);
    const own = together.slice(row * outFeatures, (row + 1) * outFeatures);
    assert.deepEqual(await run(input), own, `row ${row}`);
    for (let column = 0; column < outFeatures; column += 97) {
      let exact = 0;
      for (let i = 0; i < inFeatures; i += 1) exact += input[i]! * weight[column * inFeatures + i]!;
      assert.ok(Math.abs(own[column]! - exact) < 0.15, `row ${row}, column ${column}: ${own[column]} against ${exact}`);
    }
  }
  await session.release();
});
