/**
 * One graph's sessions. With several engine threads (engine-pool.ts) a step takes all arithmetic threads while the others
 * rest, and its share of them while they work: threads that outnumber the cores wait for one another.
 */
import type { DecoderSession } from './decoder-session.js';

/** Whether other engine threads are at work now. */
export type Beside = () => boolean;

/** A session for a thread that works alone, and one for a thread beside others, of graphs that are the same. */
export class PairedSession implements DecoderSession {
  readonly #alone: DecoderSession;
  readonly #beside: Beside | undefined;
  #narrow: DecoderSession | undefined;

  constructor(alone: DecoderSession, beside?: Beside) {
    this.#alone = alone;
    this.#beside = beside;
  }

  get graph(): DecoderSession['graph'] {
    return this.#alone.graph;
  }

  /** True where a session for a thread beside others is wanted and not there yet. */
  get wantsNarrow(): boolean {
    return this.#beside !== undefined && this.#narrow === undefined;
  }

  /** Gives it that session. */
  addNarrow(session: DecoderSession): void {
    this.#narrow = session;
  }

  /** Runs the graph with as many threads as there is room for. */
  run(...args: Parameters<DecoderSession['run']>): ReturnType<DecoderSession['run']> {
    const session = this.#narrow !== undefined && this.#beside?.() ? this.#narrow : this.#alone;
    return session.run(...args);
  }
}
