/** What a loop's parts work on together: the rows wherever they are, and what was measured and counted. */
import type { StepBackend } from './backend.js';
import type { DecodeBatch } from './decode-batch.js';
import type { EngineCounts } from './engine-counts.js';
import type { Prefills } from './prefills.js';
import type { PrefixCache } from './prefix-cache.js';
import type { RowQueue } from './row-queue.js';
import type { Selections } from './selections.js';
import type { ServiceLedger } from './service-ledger.js';
import type { StepCosts } from './step-costs.js';

/** A row is in the queue, among the prefills or in the batch; the loop moves it on. */
export interface LoopState {
  readonly backend: StepBackend;
  readonly waiting: RowQueue;
  readonly prefills: Prefills;
  readonly batch: DecodeBatch;
  readonly prefixes: PrefixCache;
  readonly selections: Selections;
  readonly costs: StepCosts;
  readonly service: ServiceLedger;
  readonly counts: EngineCounts;
}
