/** Which graph serves a step, and the adapter inputs that it is fed: the smallest graph that can serve all rows. */
import type { GraphVariant } from '../model/graph-sites.js';
import type { GraphSessions } from './graph-sessions.js';
import type { KvStore } from './kv-store.js';
import { type LoraInputs, SharedFeeds, SlotFeeds } from './lora-feeds.js';
import type { RowAdapter } from './row-adapter.js';
import { variantFor } from './step-tokens.js';

const NO_LORA: LoraInputs = { variant: 'base', groups: 1, feeds: {} };

/** The selections of a step's slots. */
interface StepSelections {
  /** Past positions by slot; -1 = free slot. */
  readonly lengths: Int32Array;
  readonly adapters: readonly RowAdapter[];
}

/** Makes adapter inputs, and keeps what the next step may need of them. */
export class LoraChoice {
  readonly #sessions: GraphSessions;
  readonly #worthPieces: number;
  /** Of steps whose rows share a selection, by variant. */
  readonly #shared = new Map<GraphVariant, SharedFeeds>();
  /** Each group of rows keeps its own, or groups that take turns would write theirs anew every step. */
  readonly #slots = new WeakMap<KvStore, SlotFeeds>();

  /** @param worthPieces see {@link SlotFeeds} */
  constructor(sessions: GraphSessions, worthPieces: number) {
    this.#sessions = sessions;
    this.#worthPieces = worthPieces;
  }

  /**
   * The inputs of a step on `store`.
   * @param live selections of the slots that are not free
   */
  inputs(store: KvStore, { lengths, adapters }: StepSelections, live: readonly RowAdapter[]): LoraInputs {
    const variant = variantFor(live);
    const { graph } = this.#sessions.of(variant);
    if (variant === 'base') return NO_LORA;
    if (live.every(({ key }) => key === live[0]!.key)) {
      const shared = this.#shared.get(variant) ?? new SharedFeeds(graph);
      this.#shared.set(variant, shared);
      return shared.of(live[0]!);
    }
    const feeds = this.#slots.get(store) ?? new SlotFeeds(this.#worthPieces);
    this.#slots.set(store, feeds);
    const pieces = variant === 'lora' ? this.#sessions.find('pieces') : undefined;
    const slots = adapters.map((adapter, slot) => (lengths[slot]! < 0 ? undefined : adapter));
    return feeds.of(slots, graph, pieces?.graph);
  }

  /** Forgets inputs that may hold an unloaded adapter's arrays. */
  clear(): void {
    for (const shared of this.#shared.values()) shared.clear();
  }
}
