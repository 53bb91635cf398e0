import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { DTYPE_BITS, type FloatDtype, toFloat32 } from '../../server/adapters/tensor-dtype.js';
import { transpose } from '../../server/adapters/transpose.js';
import { transposeStored } from '../../server/adapters/transpose-stored.js';

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

it('a stored matrix is turned over as its float32 numbers are, whatever its type and rank', () => {
  const dtype = fc.constantFrom<FloatDtype>('F32', 'F16', 'BF16', 'F64');
  const size = fc.integer({ min: 1, max: 140 });
  fc.assert(
    fc.property(dtype, size, size, fc.integer(), (type, rows, columns, seed) => {
      const bytes = new Uint8Array((rows * columns * DTYPE_BITS[type]) / 8);
      for (let i = 0; i < bytes.length; i += 1) bytes[i] = Math.imul(seed + i, 2654435761) >>> 24;
      const turned = new Float32Array(rows * columns);
      transposeStored(turned, bytes, type, rows, columns, 0.25);
      assert.deepEqual(turned, transpose(toFloat32(bytes, type), rows, columns, 0.25));
    }),
    { numRuns: 60 },
  );
});
