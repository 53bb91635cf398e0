/**
 * What the engine needs of the machinery that runs a model's steps. The loop and the decode batch know rows, stores and
 * policy; a backend knows graphs, buffers and devices. Everything here is called from the engine thread, one call at a
 * time.
 */
import type { BoundAdapter } from '../adapters/types.js';
import type { DecoderSpec } from '../model/spec.js';
import type { KeptWeights } from './converted-weights.js';
import type { RowAdapter } from './row-adapter.js';

/** One slot of a decode step. */
export interface DecodeSlot {
  readonly token: number;
  /** Tokens of the row that are in the store already; the new token's position. */
  readonly length: number;
  readonly adapter: RowAdapter;
  /** Most tokens that the row may come to hold; see {@link RopeSpec.beyond}. */
  readonly horizon: number;
}

/** Positions `from`..`from + count - 1` of a slot. */
export interface Stretch {
  readonly slot: number;
  readonly from: number;
  readonly count: number;
}

/**
 * Keys and values of rows side by side, one row a slot. A backend whose memory is not the host's may carry out what is
 * asked of a store later, but in the order in which it was asked; so none of these calls has to be waited for.
 */
export interface RowStore {
  /** Rows side by side. */
  readonly slots: number;
  /** Positions allocated in each slot. */
  readonly capacity: number;
  /** Bytes allocated, all layers together. */
  readonly bytes: number;
  /**
   * Why nothing can be read from it: `lost` with the device that held it, or `failed` to get memory or contents. Absent
   * = it is whole.
   */
  readonly broken?: 'lost' | 'failed' | undefined;
  /** Makes room for `time` positions in every slot, and for no more than that. */
  reserve(time: number): void;
  /**
   * Does `parts` small parts of what `reserve(time)` would do, so that a later call of it finds most of it done. Absent
   * where growing stalls nobody.
   */
  reserveAhead?(time: number, parts: number): void;
  /**
   * Another number of slots and positions, in place.
   * @param sources by new slot: the old slot whose positions 0..length-1 it holds afterwards; undefined = free
   * @param length at most the old and the new capacity
   */
  reshape(slots: number, capacity: number, sources: readonly (number | undefined)[], length: number): void;
  /**
   * Moves rows to other slots, in place. Absent where it makes no difference which rows lie side by side.
   * @param sources by new slot: the old slot whose positions 0..length-1 it holds afterwards; undefined = free
   */
  reorder?(sources: readonly (number | undefined)[], length: number): void;
  /**
   * Copies a stretch of positions of a slot into a slot of another store of the same backend, which must have room. The
   * copy is complete when this returns, or before anything asked of either store later.
   */
  copyStretch(stretch: Stretch, target: RowStore, targetSlot: number, targetFrom: number): void;
  /** Gives the memory back. The store must not be used any more. */
  release(): void;
}

/**
 * What a step throws that was not run, because its store was lost meanwhile with a device that somebody else's step or
 * adapter made fail: its rows can be computed again.
 */
export class StoreLost extends Error {}

/** The largest logit of each slot of a step; what free slots have means nothing. */
export interface LargestLogits {
  /** By slot: its id, the lowest on ties. */
  readonly ids: readonly number[];
  /** By slot: itself; NaN or infinite where the model computed that. */
  readonly logits: Float32Array;
  /** By slot: the natural log of its probability. */
  readonly logprobs: Float32Array;
}

/** A whole prompt of a joint prefill. */
export interface PrefillSlot {
  readonly ids: readonly number[];
  readonly horizon: number;
}

/** Where a model's steps run. */
export interface DevicePlace {
  readonly device: 'cpu' | 'webgpu';
  /** Why it is that device, and how it computes. */
  readonly why: string;
}

/** A backend, and what it runs on. */
export interface OpenedBackend extends DevicePlace {
  readonly backend: StepBackend;
}

/** Runs the steps of one model. Not re-entrant: one step at a time. */
export interface StepBackend {
  readonly spec: DecoderSpec;
  /** Bytes that a position's keys and values take in a store, all layers together. */
  readonly positionBytes: number;
  /** Total milliseconds spent inside onnxruntime. */
  readonly runMs: number;
  /**
   * What the head read for the logits of the last step, [logit rows, hidden], valid until the next one; there whenever a
   * row of the step has output rows beyond the base's vocabulary.
   */
  readonly headInputs?: Float32Array | undefined;
  /** The largest logits of the last step if that was a {@link decode}, valid until the next one; absent = not known. */
  readonly largest?: LargestLogits | undefined;
  /** How often the device was opened anew after it had failed; every store from before is lost. Absent = it cannot fail. */
  readonly restarts?: number | undefined;
  /** True where a step of a few tokens of one row costs little more than a step of one; absent = it is not known to. */
  readonly guessesPay?: boolean | undefined;
  /** The kept file that the weights are mapped from; absent = there is none. */
  readonly kept?: KeptWeights | undefined;
  /** Why no step can run any more; absent = they can. */
  readonly broken?: Error | undefined;
  /**
   * Where it runs now; another object as soon as it goes on elsewhere. Every store from before is lost then, and what
   * else is told here may be otherwise. Absent = it stays where it is.
   */
  readonly place?: DevicePlace | undefined;
  /** A store of `slots` slots with room for `capacity` positions. */
  createStore(slots: number, capacity: number): RowStore;
  /**
   * Runs `ids` at positions `length`.. of a one-slot store and appends their keys and values. As every step, it throws
   * an AppError DEVICE_FAILED when the device failed in it, and StoreLost when it had failed before.
   * @param logitRows indices into `ids` whose logits are wanted; empty = none
   * @param horizon most tokens that the row may come to hold
   * @returns logits [logitRows, vocab], valid until the next step
   */
  prefill(
    ids: readonly number[],
    length: number,
    store: RowStore,
    adapter: RowAdapter,
    logitRows: readonly number[],
    horizon?: number,
  ): Promise<Float32Array>;
  /**
   * Reads whole prompts of one selection in one step: that of `slots[i]` into slot i of `store`, from position 0 on.
   * Absent where the backend has no use for it.
   * @returns logits of each prompt's last token [slots, vocab], valid until the next step
   */
  prefillTogether?(slots: readonly PrefillSlot[], store: RowStore, adapter: RowAdapter): Promise<Float32Array>;
  /**
   * One token for every slot of `store`.
   * @param slots by slot number; undefined = free slot
   * @returns logits [slots, vocab], valid until the next step; those of free slots mean nothing
   */
  decode(slots: readonly (DecodeSlot | undefined)[], store: RowStore): Promise<Float32Array>;
  /**
   * The same step where no row needs more of its logits: far fewer bytes leave the graph. Absent = {@link decode} does.
   */
  decodeGreedy?(slots: readonly (DecodeSlot | undefined)[], store: RowStore): Promise<LargestLogits>;
  /**
   * Opens one more thing that steps are likely to need and that would hold them up then; false when nothing is left.
   * Absent where all is open from the start.
   */
  openAhead?(): Promise<boolean>;
  /** Other engine threads work beside this one from now on. Absent where that makes no difference. */
  expectOthers?(): void;
  /** Makes an adapter usable in steps. Throws when this backend cannot apply it, or its device failed. */
  load(adapter: BoundAdapter): Promise<void>;
  /** Drops what is held of an adapter; rows that still run with it keep their weights alive themselves. */
  unload(digest: string): void;
  /** Releases sessions and device memory. */
  close(): Promise<void>;
}
