/** Waiting between attempts: exponential, with full jitter, never longer than the origin asks or the deadline allows. */
import { setTimeout as sleep } from 'node:timers/promises';
import { AppError } from '../errors.js';

/** How often something is tried again. */
export interface RetryPolicy {
  /** Attempts in a row that bring nothing, before giving up. */
  readonly attempts: number;
  /** Upper bound of the first wait; doubles with each attempt. */
  readonly baseMs: number;
  readonly maxMs: number;
}

/** What is used unless a test wants otherwise. */
export const RETRY: RetryPolicy = { attempts: 5, baseMs: 250, maxMs: 15_000 };

/** Milliseconds to wait before attempt `failed + 1`, at least what the origin asked for (within `maxMs`). */
export function backOffMs(
  policy: RetryPolicy,
  failed: number,
  askedMs = 0,
  random: () => number = Math.random,
): number {
  const most = Math.min(policy.maxMs, policy.baseMs * 2 ** (failed - 1));
  return Math.max(random() * most, Math.min(askedMs, policy.maxMs));
}

/** True for failures that may pass by themselves. */
export function mayPass(error: unknown): boolean {
  return error instanceof AppError && error.reason === 'SOURCE_UNAVAILABLE';
}

/**
 * Runs `work` until it succeeds, fails for good, or has failed too often.
 * @throws what `work` threw last, or what the signal was aborted with
 */
export async function withRetry<T>(policy: RetryPolicy, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  for (let failed = 1; ; failed += 1) {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!mayPass(error) || failed >= policy.attempts) throw error;
      await pause(backOffMs(policy, failed, (error as AppError).retryAfterMs), signal);
    }
  }
}

/** Sleeps; rejects with the signal's reason when it is aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
