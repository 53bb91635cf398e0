/**
 * The random numbers of a row. A draw is a function of the row's seed and of the position of the token it picks, so
 * it does not matter which rows share a step with it or how often a step is repeated.
 */

const MASK_64 = 0xffff_ffff_ffff_ffffn;
/** 2^64 divided by the golden ratio, made odd: the increment of SplitMix64. */
const GAMMA = 0x9e37_79b9_7f4a_7c15n;

/** SplitMix64's output function (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). */
function mix64(value: bigint): bigint {
  let z = value & MASK_64;
  z = ((z ^ (z >> 30n)) * 0xbf58_476d_1ce4_e5b9n) & MASK_64;
  z = ((z ^ (z >> 27n)) * 0x94d0_49bb_1331_11ebn) & MASK_64;
  return z ^ (z >> 31n);
}

/**
 * Uniform draw in [0, 1) with 53 bits.
 * @param seed unsigned 32-bit seed of the row
 * @param position 0 for the row's first generated token, 1 for the next, ...
 */
export function uniformAt(seed: number, position: number): number {
  // The seed is mixed before the position is added: the sequences of neighbouring seeds would else overlap.
  const start = mix64(BigInt(seed >>> 0) + GAMMA);
  return Number(mix64(start + BigInt(position + 1) * GAMMA) >> 11n) / 2 ** 53;
}
