/** Stored floats, four at a time, and whether numbers are finite. */

/** How a float is stored; server/kernels/kernels.ts has the same numbers. */
export const F32 = 0;
export const BF16 = 1;
export const F16 = 2;

/** Bytes of a stored float, as a power of two. */
@inline
export function sizeBits(kind: i32): i32 {
  return kind === F32 ? 2 : 1;
}

/** Four floats of 16 bits, each in the low half of its lane, as float32. Exact. */
@inline
function widened(halves: v128, kind: i32): v128 {
  if (kind === BF16) return i32x4.shl(halves, 16);
  const sign = i32x4.shl(v128.and(halves, i32x4.splat(0x8000)), 16);
  const rest = v128.and(halves, i32x4.splat(0x7fff));
  // The exponent's bias is 112 less than float32's.
  const normal = i32x4.add(i32x4.shl(rest, 13), i32x4.splat(112 << 23));
  // Units of 2^-24, which float32 has normal numbers for: no denormal passes through the processor.
  const small = f32x4.mul(f32x4.convert_i32x4_s(rest), f32x4.splat(5.9604644775390625e-8));
  const endless = v128.or(i32x4.shl(rest, 13), i32x4.splat(0x7f800000));
  const finite = v128.bitselect(small, normal, i32x4.lt_s(rest, i32x4.splat(0x400)));
  return v128.or(sign, v128.bitselect(finite, endless, i32x4.lt_s(rest, i32x4.splat(0x7c00))));
}

/** The four floats at `at`, as float32 [4]. */
@inline
export function loadFour(at: usize, kind: i32): v128 {
  return kind === F32 ? v128.load(at) : widened(v128.load_ext<u16>(at), kind);
}

/** The float at `at`, as float32 in each lane. */
@inline
export function loadOne(at: usize, kind: i32): v128 {
  return kind === F32 ? v128.load_splat<u32>(at) : widened(i32x4.splat(<i32>load<u16>(at)), kind);
}

/**
 * Adds what four float32 say of being finite to what is known: an exponent of all ones, as in infinities and NaNs, plus one
 * unit reaches the sign bit, others do not.
 */
@inline
export function noteFinite(seen: v128, values: v128): v128 {
  const exponents = v128.and(values, i32x4.splat(0x7f800000));
  return v128.or(seen, i32x4.add(exponents, i32x4.splat(0x00800000)));
}

/** 1 where all numbers were finite. */
@inline
export function wereFinite(seen: v128): i32 {
  return v128.any_true(v128.and(seen, i32x4.splat(0x80000000))) ? 0 : 1;
}
