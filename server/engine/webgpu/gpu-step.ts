/** The steps of a WebGPU device. */
import type { DecodeSlot } from '../backend.js';
import { BASE_ROW } from '../row-adapter.js';
import type { StepTokens } from '../step-tokens.js';

/** A step's tokens, in the order [batch, sequence]. */
export interface Step extends StepTokens {
  readonly batch: number;
  /** Past positions by slot; 0 for a free one. */
  readonly lengths: Int32Array;
  /** Slots that hold no row. */
  readonly free: ReadonlySet<number>;
}

/** One token for each slot. A free slot writes its first position again and again, where nobody reads. */
export function decodeStep(slots: readonly (DecodeSlot | undefined)[]): Step {
  const lengths = Int32Array.from(slots, (slot) => slot?.length ?? 0);
  const live = slots.filter((slot) => slot !== undefined).map(({ adapter }) => adapter);
  const same = live.every(({ key }) => key === live[0]!.key);
  return {
    batch: slots.length,
    ids: slots.map((slot) => slot?.token ?? 0),
    positions: lengths,
    lengths,
    free: new Set([...slots.keys()].filter((slot) => slots[slot] === undefined)),
    adapters: same ? [live[0] ?? BASE_ROW] : slots.map((slot) => slot?.adapter ?? BASE_ROW),
    logitRows: slots.map((_, slot) => slot),
    horizonOf: (slot) => slots[slot]?.horizon ?? 0,
  };
}
