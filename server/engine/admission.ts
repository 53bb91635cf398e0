/** What is refused before a row waits for anything. */
import { AppError } from '../errors.js';
import type { EngineRow } from './engine.js';
import { BLOCK } from './placement.js';
import { positionsFor } from './scheduler.js';

/** Why a row could never have the memory it needs; undefined = it could. */
export function positionsFault(totalTokens: number, maxPositions: number): AppError | undefined {
  const needed = positionsFor(totalTokens);
  if (needed <= maxPositions) return undefined;
  return new AppError(
    'KV_EXHAUSTED',
    `a row of ${totalTokens} tokens needs ${needed} cache positions, the budget holds ${maxPositions}`,
  );
}

/** Most tokens of a row that {@link positionsFault} has nothing to say about. */
export function mostTokens(maxPositions: number): number {
  return Math.floor(maxPositions / BLOCK) * BLOCK;
}

/** Refuses rows that could never have the memory they need. Throws KV_EXHAUSTED. */
export function checkPositions(
  rows: readonly Pick<EngineRow, 'promptIds' | 'maxNewTokens'>[],
  maxPositions: number,
): void {
  for (const { promptIds, maxNewTokens } of rows) {
    const fault = positionsFault(promptIds.length + maxNewTokens, maxPositions);
    if (fault !== undefined) throw fault;
  }
}

/**
 * Refuses rows beyond the most that may wait or run.
 * @throws AppError QUEUE_FULL; INVALID_REQUEST where no later try could succeed
 */
export function checkQueue(present: number, more: number, maxQueue: number): void {
  if (present + more <= maxQueue) return;
  if (more > maxQueue) {
    throw new AppError(
      'INVALID_REQUEST',
      `the request has ${more} rows, but at most ${maxQueue} may wait or run (--max-queue); send it in parts`,
    );
  }
  throw new AppError(
    'QUEUE_FULL',
    `${present} rows wait or run already, ${more} more would exceed the limit of ${maxQueue}`,
    { retryAfterMs: 1000 },
  );
}
