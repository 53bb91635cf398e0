/** Weights become the same bytes by the kernels and by JavaScript. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type FloatDtype, toFloat32 } from '../../server/adapters/tensor-dtype.js';
import { ColumnQuantiser, type Columns } from '../../server/model/quantise-columns.js';
import { rotateRows } from '../../server/model/rotation.js';

/** Bits of floats in about -4..4, and of some zeros. */
function weights(count: number, dtype: FloatDtype, seed: number): Uint8Array {
  const values = Float32Array.from({ length: count }, (_, i) =>
    (i + seed) % 11 === 0 ? 0 : Math.sin((i + 1) * 12.9898 + seed) ** 5 * 2 ** ((i * 7) % 3),
  );
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  if (dtype === 'F64') return new Uint8Array(Float64Array.from(values).buffer);
  const bits = new Uint32Array(values.buffer);
  if (dtype === 'BF16') return new Uint8Array(Uint16Array.from(bits, (value) => value >>> 16).buffer);
  // Without its highest bits of the exponent, a float16 of any bits is a small number.
  return new Uint8Array(Uint16Array.from(bits, (value) => (value >>> 13) & 0xbfff).buffer);
}

function columnsOf(quantiser: ColumnQuantiser, stored: Uint8Array, dtype: FloatDtype, rows: number, zero: number) {
  const inFeatures = (stored.length * 8) / rows / { F32: 32, F64: 64, F16: 16, BF16: 16 }[dtype];
  const [columns, from] = [rows + 5, 3];
  const target: Columns = { bytes: new Uint8Array(inFeatures * columns).fill(77), zero, columns, from };
  const scales = new Float32Array(columns).fill(-1);
  quantiser.quantise({ bytes: stored, dtype }, inFeatures, target, scales);
  return { bytes: target.bytes, scales, inFeatures, columns, from };
}

describe('weights', () => {
  it('become the same bytes and scales by the kernels and by JavaScript, and nothing beside them is written', () => {
    const dtype = fc.constantFrom<FloatDtype>('F32', 'F16', 'BF16', 'F64');
    const length = fc.constantFrom(64, 128, 576, 27, 96, 8);
    fc.assert(
      fc.property(dtype, length, fc.integer({ min: 1, max: 1100 }), fc.nat(1000), fc.boolean(), (...given) => {
        const [type, inFeatures, rows, seed, signed] = given;
        const stored = weights(rows * inFeatures, type, seed);
        const zero = signed ? 0 : 128;
        const made = columnsOf(new ColumnQuantiser(576), stored, type, rows, zero);
        const wanted = columnsOf(new ColumnQuantiser(576, false), stored, type, rows, zero);
        assert.deepEqual(made, wanted);
      }),
      { numRuns: 60 },
    );
  });

  it('are within half a step of what the rotation makes of them', () => {
    const [rows, inFeatures] = [40, 192];
    const stored = weights(rows * inFeatures, 'F32', 5);
    const { bytes, scales, columns, from } = columnsOf(new ColumnQuantiser(inFeatures), stored, 'F32', rows, 128);
    const rotated = toFloat32(stored, 'F32').slice();
    rotateRows(rotated, inFeatures);
    for (let row = 0; row < rows; row += 1) {
      const scale = scales[from + row]!;
      for (let i = 0; i < inFeatures; i += 1) {
        const value = (bytes[i * columns + from + row]! - 128) * scale;
        assert.ok(Math.abs(value - rotated[row * inFeatures + i]!) <= scale * 0.5001);
      }
    }
  });

  it('that are all zero have a scale of zero', () => {
    const stored = new Uint8Array(64 * 4 * 3);
    const { bytes, scales, columns } = columnsOf(new ColumnQuantiser(64), stored, 'F32', 3, 0);
    assert.deepEqual([...scales.subarray(3, 6)], [0, 0, 0]);
    for (let i = 0; i < 64; i += 1) assert.deepEqual([...bytes.subarray(i * columns + 3, i * columns + 6)], [0, 0, 0]);
  });
});
