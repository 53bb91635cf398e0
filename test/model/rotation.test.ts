/** The change of basis before rounding: orthogonal for every length, and the same as matrices and in place. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { cosines, hadamard, rotateRows, rotationShape } from '../../server/model/rotation.js';

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
const vector = (length: number) =>
  fc
    .array(fc.double({ min: -8, max: 8, noNaN: true }), { minLength: length, maxLength: length })
    .map((values) => Float32Array.from(values));

/** x as [blocks, block]: mixing * x * hadamard, by the definition. */
function byMatrices(x: Float32Array): Float32Array {
  const { block, blocks, mixed } = rotationShape(x.length);
  const [h, m] = [hadamard(block), cosines(blocks)];
  const turned = x.map((_, at) => {
    const [b, j] = [Math.floor(at / block), at % block];
    let sum = 0;
    for (let k = 0; k < block; k += 1) sum += x[b * block + k]! * h[k * block + j]!;
    return sum;
  });
  if (!mixed) return turned;
  return turned.map((_, at) => {
    let sum = 0;
    for (let k = 0; k < blocks; k += 1)
      sum += m[Math.floor(at / block) * blocks + k]! * turned[k * block + (at % block)]!;
    return sum;
  });
}

test('vectors of every length keep their products with one another', () => {
  const pairs = fc.integer({ min: 1, max: 260 }).chain((length) => fc.tuple(vector(length), vector(length)));
  fc.assert(
    fc.property(pairs, ([x, y]) => {
      const [turnedX, turnedY] = [x.slice(), y.slice()];
      rotateRows(turnedX, x.length);
      rotateRows(turnedY, y.length);
      const size = Math.sqrt(dot(x, x) * dot(y, y)) + 1e-6;
      assert.ok(Math.abs(dot(turnedX, turnedY) - dot(x, y)) < 1e-5 * size);
    }),
  );
});

test('rows are turned in place as the matrices turn them', () => {
  for (const length of [1, 3, 24, 64, 96, 192, 520, 576]) {
    const x = Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898) * 3);
    const rows = Float32Array.of(...x, ...x.map((value) => -value));
    rotateRows(rows, length);
    const wanted = byMatrices(x);
    for (const [i, value] of wanted.entries()) {
      assert.ok(Math.abs(rows[i]! - value) < 1e-4, `length ${length}, value ${i}: ${rows[i]} against ${value}`);
      assert.equal(rows[length + i], -rows[i]!);
    }
  }
});

test('a single large value is spread over its block, or over all where blocks are small', () => {
  for (const [length, spread] of [
    [576, 1 / 8],
    [96, 0.3],
    [25, 0.3],
  ] as const) {
    for (const place of [0, length >> 1, length - 1]) {
      const x = new Float32Array(length);
      x[place] = 1;
      rotateRows(x, length);
      assert.ok(
        x.every((value) => Math.abs(value) <= spread + 1e-6),
        `length ${length}, place ${place}`,
      );
    }
  }
});
