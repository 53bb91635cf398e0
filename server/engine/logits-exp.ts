/** exp for the loops over a vocabulary: several times faster than Math.exp, as exact as a sum of 50,000 terms can show. */

const STEPS = 256;
/** 2^(-i/256). */
const FRACTIONS = Float64Array.from({ length: STEPS }, (_, index) => 2 ** (-index / STEPS));
/** 2^-i down to the smallest double. */
const POWERS = Float64Array.from({ length: 1076 }, (_, index) => 2 ** -index);
const STEPS_PER_NAT = STEPS / Math.LN2;
const NATS_PER_STEP = Math.LN2 / STEPS;

/**
 * e^-distance for distance >= 0, with a relative error below 1e-14; 0 for infinity and NaN.
 * The distance is split into whole powers of two, 256ths of them (both by table), and a rest below 0.0028 (by series).
 */
export function expOfMinus(distance: number): number {
  if (!(distance < 745)) return 0;
  const scaled = distance * STEPS_PER_NAT;
  const step = scaled | 0;
  const rest = (scaled - step) * NATS_PER_STEP;
  return POWERS[step >> 8]! * FRACTIONS[step & 255]! * (1 - rest * (1 - rest * (0.5 - rest * (1 / 6 - rest / 24))));
}
