/** One int8 linear: close to float32 with values far apart, and rows that do not know each other. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { exactWeightBytes } from '../../server/engine/integer-check.js';
import * as ort from '../../server/engine/ort.js';
import { heldFloats } from '../../server/model/checkpoint.js';
import { convertColumns, type WeightBytes } from '../../server/model/column-store.js';
import { integerKernel } from '../../server/model/graph-integer.js';
import { GraphBuilder } from '../../server/model/onnx-graph.js';

/** Unsigned bytes are exact wherever signed ones are. */
const EXACT = { signed: ['signed', 'unsigned'], unsigned: ['unsigned'], neither: [] } as const;
const FORMS = EXACT[(await exactWeightBytes()) ?? 'neither'];

test('this processor multiplies one form of weight bytes exactly', () => assert.ok(FORMS.length > 0));

/** Values in -1..1 that do not repeat. */
const noise = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin((i + 1) * 12.9898 + seed * 78.233) ** 3);

/** The linear as a session: y [rows, out] of x [rows, in]. */
async function openLinear(
  bytesAre: WeightBytes,
  inFeatures: number,
  outFeatures: number,
  weight: Float32Array,
  grouped: boolean,
) {
  const linear = { module: 'linear', weight: 'linear', inFeatures, outFeatures };
  const store = await convertColumns([[linear]], async () => heldFloats(weight), bytesAre);
  const graph = new GraphBuilder();
  const x = graph.input('x', 'float32', grouped ? ['groups', 'rows', inFeatures] : ['rows', inFeatures]);
  const [y] = integerKernel(store).emit(graph, { x, grouped }, [linear], [undefined]);
  graph.output(y!, 'float32', grouped ? ['groups', 'rows', outFeatures] : ['rows', outFeatures]);
  const session = await ort.InferenceSession.create(graph.finish('linear'), {
    externalData: [{ path: store.location, data: store.bytes }],
    logSeverityLevel: 3,
  });
  return {
    run: async (rows: Float32Array): Promise<Float32Array> => {
      const count = rows.length / inFeatures;
      const dims = grouped ? [count, 1, inFeatures] : [count, inFeatures];
      return (await session.run({ x: new ort.Tensor('float32', rows, dims) }))[y!]!.data as Float32Array;
    },
    close: () => session.release(),
  };
}

for (const bytesAre of FORMS)
  describe(`an int8 linear with ${bytesAre} bytes`, () => {
    for (const [inFeatures, outFeatures, grouped] of [
      [520, 8208, false],
      [576, 192, true],
      [96, 40, false],
      [27, 33, true],
    ] as const) {
      test(`${inFeatures} x ${outFeatures}: close to float32, the same alone and beside others`, async () => {
        const weight = noise(outFeatures * inFeatures, 1);
        const rows = noise(5 * inFeatures, 2);
        // What rounding by the largest value would lose: one channel far above the others.
        for (let row = 0; row < 5; row += 1) rows[row * inFeatures + 7] = 20 + row;
        const linear = await openLinear(bytesAre, inFeatures, outFeatures, weight, grouped);
        const together = await linear.run(rows);
        for (let row = 0; row < 5; row += 1) {
          const input = rows.slice(row * inFeatures, (row + 1) * inFeatures);
          const own = together.slice(row * outFeatures, (row + 1) * outFeatures);
          assert.deepEqual(await linear.run(input), own, `row ${row}`);
          let [error, size] = [0, 0];
          for (let column = 0; column < outFeatures; column += 1) {
            let exact = 0;
            for (let i = 0; i < inFeatures; i += 1) exact += input[i]! * weight[column * inFeatures + i]!;
            error += (own[column]! - exact) ** 2;
            size += exact ** 2;
          }
          assert.ok(Math.sqrt(error / size) < 0.015, `row ${row}: ${Math.sqrt(error / size)}`);
        }
        await linear.close();
      });
    }

    test('a row of zeros gives zeros, and a row that overflows leaves its neighbours as they are', async () => {
      const [inFeatures, outFeatures] = [128, 64];
      const linear = await openLinear(bytesAre, inFeatures, outFeatures, noise(inFeatures * outFeatures, 3), false);
      const fine = noise(inFeatures, 4);
      const alone = await linear.run(fine);
      const broken = new Float32Array(inFeatures).fill(Number.POSITIVE_INFINITY);
      const y = await linear.run(Float32Array.of(...fine, ...new Float32Array(inFeatures), ...broken, ...fine));
      assert.deepEqual(y.slice(0, outFeatures), alone);
      assert.ok(y.slice(outFeatures, 2 * outFeatures).every((value) => value === 0));
      assert.deepEqual(y.slice(3 * outFeatures), alone);
      await linear.close();
    });
  });
