import { AbortedError, DeadlineError, type LoramuxError, toLoramuxError } from './errors.js';
import type { CallOptions } from './types.js';

/** Reasons with which the server says that a later try may succeed. */
export const RETRYABLE_REASONS: ReadonlySet<string> = new Set([
  'ADAPTER_MEMORY_EXHAUSTED',
  'KV_EXHAUSTED',
  'QUEUE_FULL',
  'SHUTTING_DOWN',
  'HANDLER_CRASHED',
  'ENGINE_FAILED',
  'ENGINE_STALLED',
  'DEVICE_FAILED',
  'REGISTRY_UNAVAILABLE',
  'MODEL_NOT_READY',
  'SOURCE_UNAVAILABLE',
  'SOURCE_CORRUPT',
  'SOURCE_CACHE_FULL',
]);

/** Options of a call with all defaults filled in. */
export interface ResolvedOptions extends CallOptions {
  timeoutMs: number;
  maxRetries: number;
}

const FIRST_DELAY_MS = 250;
const MAX_DELAY_MS = 8_000;
/** A server that asks for a longer wait than this gets no retry: the caller should know. */
const MAX_RETRY_AFTER_MS = 60_000;
/** The longest time that gRPC can tell in milliseconds, 8 digits, a bit more than a day; a timer could wait 25. */
const MAX_TOLD_MS = 99_999_999;

/** Whether to try again: refused by the server, or, for calls that may safely run twice, a broken connection. */
function retryable(error: LoramuxError, idempotent: boolean): boolean {
  if (RETRYABLE_REASONS.has(error.reason)) return (error.retryAfterMs ?? 0) <= MAX_RETRY_AFTER_MS;
  return idempotent && error.reason === 'CONNECTION';
}

/** Exponential, with up to a quarter less at random, but never earlier than the server asks for. */
function delayOf(error: LoramuxError, attempt: number): number {
  const backoff = Math.min(FIRST_DELAY_MS * 2 ** attempt, MAX_DELAY_MS) * (1 - Math.random() / 4);
  return Math.max(backoff, error.retryAfterMs ?? 0);
}

/** Waits. Rejects with AbortedError when `signal` aborts. */
export function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, ms);
    const abort = (): void => {
      clearTimeout(timer);
      reject(new AbortedError('the call was aborted', { reason: 'CANCELED', code: 'canceled', cause: signal?.reason }));
    };
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
  });
}

/**
 * Runs a call, again where that makes sense, within one budget of time.
 *
 * @param idempotent whether the call may run twice when it is unknown whether it ran
 * @param attempt one try with the time that is left; undefined where that is more than can be told
 * @throws LoramuxError
 */
export async function withRetries<T>(
  options: ResolvedOptions,
  idempotent: boolean,
  attempt: (timeoutMs: number | undefined) => Promise<T>,
): Promise<T> {
  const deadline = Date.now() + options.timeoutMs;
  for (let retries = 0; ; retries++) {
    // The protocols take whole milliseconds only.
    const left = Math.max(1, Math.ceil(deadline - Date.now()));
    try {
      return await attempt(left > MAX_TOLD_MS ? undefined : left);
    } catch (thrown) {
      const error = toLoramuxError(thrown, options.signal);
      if (!(retries < options.maxRetries) || !retryable(error, idempotent)) throw error;
      const delay = delayOf(error, retries);
      if (Date.now() + delay >= deadline) {
        throw new DeadlineError(`the time is over before a retry makes sense: ${error.message}`, {
          reason: 'DEADLINE',
          code: 'deadline_exceeded',
          requestId: error.requestId,
          cause: error,
        });
      }
      await sleep(delay, options.signal);
    }
  }
}
