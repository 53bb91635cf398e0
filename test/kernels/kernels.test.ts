/** The loops of kernels/ give to the last bit what the same does in JavaScript. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { kernelBytes, MatrixCopy } from '../../server/adapters/matrix-copy.js';
import { DTYPE_BITS, type FloatDtype } from '../../server/adapters/tensor-dtype.js';
import { WINDOW_BYTES } from '../../server/adapters/windows.js';
import { Kernels } from '../../server/kernels/kernels.js';

const kernels = Kernels.open(kernelBytes(1))!;
const copy = new MatrixCopy(kernels);
const inJavaScript = new MatrixCopy();
const window = kernels.take(WINDOW_BYTES);

const dtype = fc.constantFrom<FloatDtype>('F32', 'F16', 'BF16', 'F64');
const size = fc.integer({ min: 1, max: 140 });

/** The same bytes in the kernels' memory and outside; any pattern of bits may be among them. */
function stored(count: number, type: FloatDtype, seed: number, finite: boolean): [Uint8Array, Uint8Array] {
  const bytes = new Uint8Array((count * DTYPE_BITS[type]) / 8);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = Math.imul(seed + i, 2654435761) >>> 24;
  // Without the exponent's highest bit no number is near the end of its type's range.
  const each = DTYPE_BITS[type] / 8;
  if (finite) for (let i = each - 1; i < bytes.length; i += each) bytes[i]! &= 0xbf;
  const inside = window.subarray(0, bytes.length);
  inside.set(bytes);
  return [inside, bytes];
}

/** Bits, in which NaNs are all the same. */
const bits = (values: Float32Array) =>
  Array.from(values, (value) => (Number.isNaN(value) ? 'NaN' : Object.is(value, -0) ? '-0' : value));

describe('kernels', () => {
  it('widen stored numbers of every type, and see whether they are finite', () => {
    fc.assert(
      fc.property(dtype, size, size, fc.integer(), fc.boolean(), (type, rows, columns, seed, finite) => {
        const [inside, outside] = stored(rows * columns, type, seed, finite);
        const [got, wanted] = [new Float32Array(rows * columns), new Float32Array(rows * columns)];
        const [is, was] = [copy.widen(inside, type, got), inJavaScript.widen(outside, type, wanted)];
        assert.deepEqual(bits(got), bits(wanted));
        assert.equal(is, was);
        if (finite) assert.equal(is, true);
      }),
      { numRuns: 150 },
    );
  });

  it('widen every float16 and every bfloat16', () => {
    for (const type of ['F16', 'BF16'] as const) {
      const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
      const bytes = new Uint8Array(all.buffer);
      const inside = window.subarray(0, bytes.length);
      inside.set(bytes);
      const [got, wanted] = [new Float32Array(65536), new Float32Array(65536)];
      assert.equal(copy.widen(inside, type, got), false);
      assert.equal(inJavaScript.widen(bytes, type, wanted), false);
      assert.deepEqual(bits(got), bits(wanted));
    }
  });

  it('see the one number that is not finite, wherever it is', () => {
    for (const type of ['F32', 'F16', 'BF16'] as const) {
      for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
        for (let at = 0; at < 23; at += 1) {
          const each = DTYPE_BITS[type] / 8;
          const inside = window.subarray(0, 23 * each).fill(0);
          const view = new DataView(inside.buffer, inside.byteOffset);
          const high = type === 'F16' ? { [Number.NaN]: 0x7e00, [Infinity]: 0x7c00, [-Infinity]: 0xfc00 } : undefined;
          const single = new DataView(new ArrayBuffer(4));
          single.setFloat32(0, value);
          if (type === 'F32') view.setFloat32(at * each, value, true);
          else view.setUint16(at * each, high?.[value] ?? single.getUint16(0), true);
          assert.equal(copy.widen(inside, type, new Float32Array(23)), false, `${type} ${value} at ${at}`);
          assert.equal(copy.turn(inside, type, new Float32Array(23), [23, 1], 1), false, `${type} ${value} at ${at}`);
        }
      }
    }
  });

  it('turn stored matrices over, times a scale, whatever their type, size and rank', () => {
    const scale = fc.constantFrom(0, 0.25, 2, 1 / 3, 16 / Math.sqrt(48), 1e30, 1e-30);
    fc.assert(
      fc.property(dtype, size, size, fc.integer(), scale, fc.boolean(), (type, rows, columns, seed, factor, finite) => {
        const [inside, outside] = stored(rows * columns, type, seed, finite);
        const [got, wanted] = [new Float32Array(rows * columns), new Float32Array(rows * columns)];
        const is = copy.turn(inside, type, got, [rows, columns], factor);
        const was = inJavaScript.turn(outside, type, wanted, [rows, columns], factor);
        assert.deepEqual(bits(got), bits(wanted));
        assert.equal(is, was);
      }),
      { numRuns: 200 },
    );
  });

  it('take a whole window, and leave what lies outside their memory to JavaScript', () => {
    const values = Float32Array.from({ length: WINDOW_BYTES / 4 }, (_, i) => i % 1000);
    const outside = new Uint8Array(values.buffer);
    window.set(outside);
    const [got, wanted] = [new Float32Array(values.length), new Float32Array(values.length)];
    assert.equal(copy.turn(window, 'F32', got, [values.length / 16, 16], 0.5), true);
    assert.equal(copy.turn(outside, 'F32', wanted, [values.length / 16, 16], 0.5), true);
    assert.deepEqual(got, wanted);
  });

  it('give out no more memory than they have', () => {
    const small = Kernels.open(1000)!;
    assert.equal(small.take(900).length, 900);
    assert.throws(() => small.take(1 << 20), RangeError);
  });
});
