/**
 * How often something is used, old uses counting less: each is worth half as much after a while, which is measured in uses of
 * anything. With a short while the least recently used has the least, with a long one the least frequently used (the
 * idea of LRFU, Lee et al., IEEE Transactions on Computers 50(12), 2001).
 */

/** Uses of something that was never used. */
export const NEVER_USED = Number.NEGATIVE_INFINITY;

/**
 * Uses count half after as many notes (two a use: its begin and its end) as eight times what is held. Longer is better while
 * the same things stay in favour, and worse after that changes.
 */
const HALF_LIFE_PER_HELD = 8;

/** Counts uses. Things that were last used at any two times can be compared at any later one. */
export class UseClock {
  /** Half-lives that have passed. */
  private now = 0;

  /**
   * Adds a use.
   * @param uses what it had, or {@link NEVER_USED}
   * @param held how many things are held now
   * @returns what it has now: the logarithm to base 2 of its uses, each of which counts twice as much for every half-life that
   *   had passed when it was made
   */
  used(uses: number, held: number): number {
    this.now += 1 / (HALF_LIFE_PER_HELD * Math.max(1, held));
    return Math.log2(2 ** (uses - this.now) + 1) + this.now;
  }
}

/**
 * What it costs to hold something: bytes that it occupies, over its uses and the time to bring it back; a logarithm to base
 * 2. Times are taken by powers of four, so that equal things go by their uses alone whatever noise their load times have.
 * @param uses as {@link UseClock.used} counts them
 */
export function wasteOf(held: { readonly bytes: number; readonly reloadMs: number }, uses: number): number {
  return Math.log2(Math.max(1, held.bytes)) - uses - 2 * Math.round(Math.log2(Math.max(1, held.reloadMs)) / 2);
}
