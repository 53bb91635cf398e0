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
  /** All answers, those before the time that counts included. */
  readonly answers: number;
}

/** Runs all callers for a time that counts, after a quarter of it that does not. */
export async function closedLoop(callers: readonly Caller[], seconds: number): Promise<LoopResult> {
  const times: number[] = [];
  let failed = 0;
  let answers = 0;
  const from = performance.now() + seconds * 250;
  const until = from + seconds * 1000;
  const loop = async (call: Caller) => {
    for (let start = performance.now(); start < until; start = performance.now()) {
      try {
        await call();
        answers += 1;
        const end = performance.now();
        // An answer counts in the time in which it comes, however long it took.
        if (end >= from && end < until) times.push(end - start);
      } catch (error) {
        failed += 1;
        if (failed > 100) throw error;
      }
    }
  };
  await Promise.all(callers.map(loop));
  return {
    perSecond: times.length / seconds,
    p50: percentile(times, 0.5),
    p99: percentile(times, 0.99),
    max: times.reduce((most, ms) => Math.max(most, ms), 0),
    failed,
    answers,
  };
}
