/** What callers are told when a request ends before its answer is complete. */
import type { EndEvent } from '../engine/messages.js';
import { AppError } from '../errors.js';
import type { AdapterLease } from './ports.js';
import { selectionText } from './selection-text.js';

/**
 * Why the engine ended a row.
 * @param leases the adapters of the row
 * @param alive false: the engine has stopped
 */
export function rowError({ message, reason }: EndEvent, leases: readonly AdapterLease[], alive: boolean): AppError {
  const what = message ?? 'the engine stopped';
  if (reason === 'ADAPTER_OVERFLOW' && leases.length > 0) {
    return new AppError(reason, `the answer of ${selectionText(leases)} cannot be computed: ${what}`);
  }
  if (reason === 'ADAPTER_OVERFLOW') return new AppError('INTERNAL', 'internal error', { cause: new Error(what) });
  if (reason !== undefined) return new AppError(reason, what);
  if (!alive) return new AppError('ENGINE_FAILED', what);
  return new AppError('INTERNAL', 'internal error', { cause: new Error(what) });
}

/** What an aborted call is answered with: its signal's reason tells a passed deadline from a client that left. */
export function abortError(signal: AbortSignal): AppError {
  const reason: unknown = signal.reason;
  if (reason instanceof AppError) return reason;
  const { name, code } = (reason ?? {}) as { name?: unknown; code?: unknown };
  // AbortSignal.timeout() aborts with a TimeoutError; Connect with its error of code 4, deadline exceeded.
  if (name === 'TimeoutError' || (name === 'ConnectError' && code === 4)) {
    return new AppError('DEADLINE', 'the deadline passed before the answer was complete', { cause: reason });
  }
  return new AppError('CANCELED', 'the call was cancelled', { cause: reason });
}
