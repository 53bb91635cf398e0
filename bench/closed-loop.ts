/** Closed loop of whole answers: a number of callers, each asking again when it has its answer. */
import { percentile } from './load.js';

/** Sends one request and resolves with its answer's end; rejects when it is not a success. */
export type Caller = () => Promise<void>;

/** Times in milliseconds. */
export interface LoopResult {
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
  readonly failed: number;
  /** Answers in the time that counts. */
  readonly answers: number;
}

/** Code that has just started is still being compiled, which takes a share of the processor that it later does not. */
const WARM_UP_MS = 2000;

/**
 * Runs all callers for a time that counts, after two seconds or a quarter of it that do not.
 * @param counting called when the time that counts begins
 */
export async function closedLoop(
  callers: readonly Caller[],
  seconds: number,
  counting: () => void = () => {},
): Promise<LoopResult> {
  const times: number[] = [];
  let failed = 0;
  const from = performance.now() + Math.max(WARM_UP_MS, seconds * 250);
  const until = from + seconds * 1000;
  const loop = async (call: Caller) => {
    for (let start = performance.now(); start < until; start = performance.now()) {
      try {
        await call();
        const end = performance.now();
        // An answer counts in the time in which it comes, however long it took.
        if (end >= from && end < until) times.push(end - start);
      } catch (error) {
        failed += 1;
        if (failed > 100) throw error;
      }
    }
  };
  setTimeout(counting, from - performance.now());
  await Promise.all(callers.map(loop));
  return {
    perSecond: times.length / seconds,
    p50: percentile(times, 0.5),
    p99: percentile(times, 0.99),
    max: times.reduce((most, ms) => Math.max(most, ms), 0),
    failed,
    answers: times.length,
  };
}
