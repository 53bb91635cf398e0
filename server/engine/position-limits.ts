/** Bounds of rows' memory: bytes for whoever sets them, positions for the loop. */
import type { StepBackend } from './backend.js';
import type { LoopLimits } from './engine-loop.js';

/** Bounds of the loop, in bytes: how many positions they are depends on the floats that the device computes with. */
export interface WorkerLimits extends Omit<LoopLimits, 'maxPositions' | 'stepPositions'> {
  /** Budget of the keys and values of running rows. */
  readonly kvBytes: number;
  /** Keys and values whose reading takes as long as reading the weights once; absent = rows are never kept apart. */
  readonly stepBytes?: number | undefined;
}

/** The bounds in positions of the backend's stores, whatever these take at the moment. */
export function inPositions(
  { kvBytes, stepBytes, ...limits }: WorkerLimits,
  backend: Pick<StepBackend, 'positionBytes'>,
): LoopLimits {
  return {
    ...limits,
    get maxPositions() {
      return Math.floor(kvBytes / backend.positionBytes);
    },
    get stepPositions() {
      return stepBytes === undefined ? undefined : Math.ceil(stepBytes / backend.positionBytes);
    },
  };
}
