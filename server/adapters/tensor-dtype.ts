/**
 * Element types of safetensors files and their conversion to float32. The loops run over typed-array views of the
 * file's little-endian bytes (as every platform that Node's binaries for this project's engine support is).
 */

/** Bits per element by safetensors dtype name (https://github.com/huggingface/safetensors, `Dtype`). */
export const DTYPE_BITS = {
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
  C64: 64,
} as const satisfies Record<string, number>;

/** An element type that a safetensors header may name. */
export type TensorDtype = keyof typeof DTYPE_BITS;

/** The element types that convert to float32. */
export type FloatDtype = 'F32' | 'F16' | 'BF16' | 'F64';

/** True for a dtype name of {@link DTYPE_BITS}. */
export function isTensorDtype(name: string): name is TensorDtype {
  return Object.hasOwn(DTYPE_BITS, name);
}

/** True for a dtype that {@link convertToFloat32} takes. */
export function isFloatDtype(dtype: TensorDtype): dtype is FloatDtype {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16' || dtype === 'F64';
}

let halfTable: Int32Array | undefined;

/** The bits of the float32 of each of the 65536 float16 bit patterns (256 KiB, made at first use). */
function float16Bits(): Int32Array {
  if (halfTable !== undefined) return halfTable;
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits += 1) {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    let value: number;
    if (exponent === 0) value = fraction * 2 ** -24;
    else if (exponent === 31) value = fraction === 0 ? Number.POSITIVE_INFINITY : Number.NaN;
    else value = (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[bits] = bits >= 32768 ? -value : value;
  }
  halfTable = new Int32Array(table.buffer);
  return halfTable;
}

/**
 * Converts little-endian elements into `out[outStart...]`; BF16 and F16 are exact, F64 is rounded to nearest.
 * @param source bytes of whole elements; its byteOffset must be a multiple of the element size
 */
export function convertToFloat32(source: Uint8Array, dtype: FloatDtype, out: Float32Array, outStart: number): void {
  const { buffer, byteOffset, byteLength } = source;
  switch (dtype) {
    case 'F32':
      out.set(new Float32Array(buffer, byteOffset, byteLength / 4), outStart);
      return;
    case 'F64':
      out.set(new Float64Array(buffer, byteOffset, byteLength / 8), outStart);
      return;
    case 'BF16': {
      const input = new Uint16Array(buffer, byteOffset, byteLength / 2);
      const bits = new Int32Array(out.buffer, out.byteOffset + outStart * 4, input.length);
      for (let i = 0; i < input.length; i += 1) bits[i] = input[i]! << 16;
      return;
    }
    case 'F16': {
      const input = new Uint16Array(buffer, byteOffset, byteLength / 2);
      // By bits: a number that is loaded as one is widened to 64 bits and rounded back on its way.
      const table = float16Bits();
      const bits = new Int32Array(out.buffer, out.byteOffset + outStart * 4, input.length);
      for (let i = 0; i < input.length; i += 1) bits[i] = table[input[i]!]!;
      return;
    }
  }
}

/** Elements as float32; F32 becomes a view of `raw`, whose byteOffset must be a multiple of 4. */
export function toFloat32(raw: Uint8Array, dtype: FloatDtype): Float32Array {
  if (dtype === 'F32') return new Float32Array(raw.buffer, raw.byteOffset, raw.length / 4);
  const values = new Float32Array((raw.length * 8) / DTYPE_BITS[dtype]);
  convertToFloat32(raw, dtype, values, 0);
  return values;
}

/** Numbers that are looked at before the first answer. */
const LOOK = 4096;
/** Of the bits of a float32: its exponent, which is all ones in infinities and NaNs, and one of its units. */
const EXPONENT = 0x7f800000;
const UNIT = 0x00800000;

/** Index of the first NaN or infinity, or -1. An exponent of all ones plus one unit reaches the sign bit; others do not. */
export function firstNonFinite(values: Float32Array): number {
  const bits = new Int32Array(values.buffer, values.byteOffset, values.length);
  for (let begin = 0; begin < bits.length; begin += LOOK) {
    const end = Math.min(bits.length, begin + LOOK);
    let seen = 0;
    let i = begin;
    for (; i + 4 <= end; i += 4) {
      seen |= (bits[i]! & EXPONENT) + UNIT;
      seen |= (bits[i + 1]! & EXPONENT) + UNIT;
      seen |= (bits[i + 2]! & EXPONENT) + UNIT;
      seen |= (bits[i + 3]! & EXPONENT) + UNIT;
    }
    for (; i < end; i += 1) seen |= (bits[i]! & EXPONENT) + UNIT;
    if (seen >= 0) continue;
    for (let at = begin; at < end; at += 1) if ((bits[at]! & EXPONENT) === EXPONENT) return at;
  }
  return -1;
}
