/** How numbers are kept on the device. */
import { convertToFloat32 } from '../../adapters/tensor-dtype.js';

/** Element type of activations, caches and adapters, and the width of quantised weights. */
export interface GpuPrecision {
  /** True: 16-bit floats, which the device must support in shaders (shader-f16). */
  readonly half: boolean;
  /** Bits of a weight in blocks of 32 (4: the head keeps 8); undefined = weights are floats like everything else. */
  readonly bits: 4 | 8 | undefined;
}

/** Element type of activations. */
export const elementType = ({ half }: GpuPrecision): 'float16' | 'float32' => (half ? 'float16' : 'float32');

/** Bytes of an activation, and of a number in the caches. */
export const elementBytes = ({ half }: GpuPrecision): number => (half ? 2 : 4);

const scratch = new DataView(new ArrayBuffer(4));

/** A float32 as the bits of the nearest float16; what is too large becomes infinite. */
function halfBits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const mantissa = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (mantissa === 0 ? 0 : 0x200);
  const power = exponent - 127 + 15;
  if (power >= 0x1f) return sign | 0x7c00;
  // Below the smallest normal number the leading one becomes part of the mantissa.
  const shift = power > 0 ? 13 : 14 - power;
  if (shift > 24) return sign;
  const whole = power > 0 ? (power << 23) | mantissa : mantissa | 0x800000;
  const kept = whole >>> shift;
  const rest = whole & ((1 << shift) - 1);
  const middle = 1 << (shift - 1);
  // Round to nearest, ties to even; a carry into the exponent is the right next number.
  return sign | (rest > middle || (rest === middle && (kept & 1) === 1) ? kept + 1 : kept);
}

/** Values of a tensor that came from the device, as float32. */
export function toFloats(values: Float32Array | Uint16Array): Float32Array {
  if (values instanceof Float32Array) return values;
  const floats = new Float32Array(values.length);
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  convertToFloat32(bytes, 'F16', floats, 0);
  return floats;
}

/**
 * Float32 values as float16 bits.
 * @param what named in the error
 * @throws RangeError when a finite value is too large: it would turn into infinity, and infinity times zero is not zero
 */
export function toHalf(values: Float32Array, what: string): Uint16Array {
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i += 1) {
    const bits = halfBits(values[i]!);
    if ((bits & 0x7c00) === 0x7c00) throw new RangeError(`${what}: ${values[i]} is beyond the range of 16-bit floats`);
    halves[i] = bits;
  }
  return halves;
}
