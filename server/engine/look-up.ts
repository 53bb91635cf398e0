/**
 * Prompt look-up decoding: a row that decodes alone guesses its next tokens from its own text, and one step computes the
 * logits at all of them. The row's sampler still picks every token; a guess only decides whether the logits after it are
 * of use. See decisions/0028.
 */
import type { RowStore, StepBackend } from './backend.js';
import type { DecodeGroup } from './decode-batch.js';
import { DraftWidth, TokenIndex } from './draft.js';
import type { EngineCounts } from './engine-counts.js';
import type { Row } from './row.js';

/** What is known of a row's text and of how guesses fared in it. */
interface Known {
  readonly index: TokenIndex;
  readonly width: DraftWidth;
}

/** Guesses for the rows of one loop. */
export class LookUp {
  readonly #backend: StepBackend;
  readonly #most: number;
  readonly #counts: EngineCounts;
  readonly #known = new WeakMap<Row, Known>();

  /** @param most guesses of one step; 0 = none are ever made */
  constructor(backend: StepBackend, most: number, counts: EngineCounts) {
    this.#backend = backend;
    this.#counts = counts;
    this.#most = most;
  }

  /**
   * Guesses of what follows the newest token of the only row that decodes, as far as its store has room for them already
   * and the row may still grow.
   * @returns none = an ordinary step is due
   */
  guesses([group, ...others]: readonly DecodeGroup[]): readonly number[] {
    if (this.#most === 0 || !this.#backend.guessesPay || group?.slots.length !== 1 || others.length > 0) return [];
    const { store } = group;
    const row = group.slots[0]!;
    const known = this.#known.get(row) ?? { index: new TokenIndex(), width: new DraftWidth(this.#most) };
    this.#known.set(row, known);
    const { index, width } = known;
    // The newest token is not in the cache yet.
    for (let at = index.length; at <= row.length; at += 1) index.push(row.idAt(at));
    // One token of the row's rest is what every step gives.
    const room = Math.min(store.capacity, row.totalTokens - 1, row.spanAt(row.length).until) - row.length - 1;
    if (room <= 0 || index.draft(1).length === 0) return [];
    return index.draft(Math.min(room, width.next()));
  }

  /**
   * Runs the row's newest token and the guesses behind it; the store then holds keys and values of all of them, of which
   * the row's `length` tells those that count. Throws as {@link StepBackend.prefill}.
   * @returns logits [1 + guesses, vocab]
   */
  run(row: Row, guesses: readonly number[], store: RowStore): Promise<Float32Array> {
    const ids = [row.lastToken, ...guesses];
    const { adapter } = row.spanAt(row.length);
    return this.#backend.prefill(ids, row.length, store, adapter, [...ids.keys()], row.totalTokens);
  }

  /** Tells how guesses fared: the row got `accepted` tokens more than an ordinary step gives. */
  told(row: Row, tried: number, accepted: number): void {
    this.#counts.guessed(tried, accepted);
    this.#known.get(row)!.width.told(tried, accepted);
  }
}
