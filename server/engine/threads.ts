/** How many threads the arithmetic of a model gets where the setting leaves it open. */

/** Models below this many weights; see {@link threadsFor}. */
const SMALL = 20_000_000;

/**
 * One for each core. A model so small that a step takes a millisecond or two gains little from a second thread, and loses
 * half its requests when that thread takes the core on which the server reads and answers them: small models leave it one,
 * and never take more than two.
 * @param parameters weights of the model
 * @param cores processor cores at hand, >= 1
 */
export function threadsFor(parameters: number, cores: number): number {
  return parameters < SMALL ? Math.max(1, Math.min(2, cores - 1)) : cores;
}
