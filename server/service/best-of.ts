/** Which samples of an input are returned: of `bestOf` that were drawn the `n` best. */
import type { PlannedRow } from './plan-rows.js';
import type { PredictResult } from './types.js';

/** A complete row. */
export interface Candidate {
  readonly result: PredictResult;
  /** Mean log-probability of its tokens. */
  readonly meanLogprob: number;
}

/**
 * Results in the order of the inputs, and of each input's samples: as they were drawn, or, where more were drawn than
 * are returned, the most probable ones first, numbered anew.
 * @param rows with their candidates at the same places; the rows of an input lie side by side
 */
export function pickBest(rows: readonly PlannedRow[], candidates: readonly Candidate[]): PredictResult[] {
  const picked: PredictResult[] = [];
  for (let at = 0; at < rows.length; ) {
    const { parameters } = rows[at]!;
    const drawn = drawnSamples(parameters);
    const group = candidates.slice(at, at + drawn);
    if (drawn > parameters.n) {
      group.sort((a, b) => b.meanLogprob - a.meanLogprob || a.result.sample - b.result.sample);
    }
    for (const [sample, { result }] of group.slice(0, parameters.n).entries()) picked.push({ ...result, sample });
    at += drawn;
  }
  return picked;
}

/** How many rows an input becomes. */
export function drawnSamples({ n, bestOf }: { readonly n: number; readonly bestOf?: number | undefined }): number {
  return Math.max(n, bestOf ?? n);
}
