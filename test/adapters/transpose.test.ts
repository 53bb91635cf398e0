import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { transpose } from '../../server/adapters/transpose.js';

it('a transposed matrix has every number in its place, times the scale', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 140 }), fc.integer({ min: 0, max: 20 }), (rows, columns) => {
      const values = Float32Array.from({ length: rows * columns }, (_, i) => i + 1);
      const turned = transpose(values, rows, columns, 0.5);
      assert.equal(turned.length, values.length);
      for (let r = 0; r < rows; r += 1)
        for (let c = 0; c < columns; c += 1) assert.equal(turned[c * rows + r], (r * columns + c + 1) / 2);
    }),
    { numRuns: 60 },
  );
});
