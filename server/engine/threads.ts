/** How many threads a model gets where the settings leave it open. */

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

/**
 * Engine threads of a model. Two take turns better than one divides its steps, as long as the weights are in memory only
 * once (packed-weights.ts): so where nothing else is asked for they are two for models in `int8` with a cache.
 * @param asked 0 = leave it open
 */
export function enginesFor(
  asked: number,
  model: { readonly parameters: number; readonly threads: number; readonly shareable: boolean },
): { readonly count: number; readonly onlyShared: boolean } {
  if (asked > 0) return { count: asked, onlyShared: false };
  const several = model.shareable && model.threads >= 2 && model.parameters >= SMALL;
  return { count: several ? 2 : 1, onlyShared: true };
}
