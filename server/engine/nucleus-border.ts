/** Where the mass of top-p is reached, among tokens that lie in buckets of similar weight, the most likely ones first. */

/** The bucket in which the mass is reached, and the mass of those before it. */
export function borderOf(mass: Float64Array, wanted: number): { readonly border: number; readonly above: number } {
  let above = 0;
  let border = 0;
  while (border < mass.length - 1 && above + mass[border]! < wanted) above += mass[border++]!;
  return { border, above };
}

/**
 * How many tokens of that bucket stay: one stays while the mass of those above it is below what is wanted.
 * @param sorted places in `weights`, the most likely ones first
 */
export function staying(
  sorted: readonly number[],
  weights: Float32Array | Float64Array,
  above: number,
  wanted: number,
): number {
  let mass = above;
  let count = 0;
  // The mass is 0 only before the most likely token, which always stays.
  for (; count < sorted.length && (mass === 0 || mass < wanted); count++) mass += weights[sorted[count]!]!;
  return count;
}
