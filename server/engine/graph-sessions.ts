/** The sessions of one model's graphs, one for each variant: which are open, and which are opened when. */
import type { BoundAdapter } from '../adapters/types.js';
import type { GraphVariant } from '../model/graph-sites.js';
import type { KeptWeights } from './converted-weights.js';
import type { DecoderSession } from './decoder-session.js';
import { type Beside, PairedSession } from './paired-session.js';
import { needsFullGraph } from './row-adapter.js';

/** How sessions are opened that were not given. */
export interface SessionOpener {
  /** True: adapters may come. */
  readonly lora: boolean;
  /** See {@link StepBackend.kept}. */
  readonly kept?: KeptWeights | undefined;
  open(variant: GraphVariant): Promise<DecoderSession>;
  /** The graph of pieces, if one more session costs little memory now; absent = rows of many selections do without it. */
  openPieces?(): Promise<DecoderSession | undefined>;
  /** Whether other engine threads are at work, and the session for steps beside them; absent = there are none. */
  readonly beside?: Beside;
  openNarrow?(variant: GraphVariant): Promise<DecoderSession>;
}

/** Open sessions by variant. */
export class GraphSessions {
  readonly #sessions = new Map<GraphVariant, PairedSession>();
  readonly #opener: SessionOpener | undefined;
  readonly #opening = new Map<GraphVariant, Promise<void>>();
  /** True: other engine threads will work beside this one, so sessions for that are opened ahead. */
  othersExpected = false;

  /** @param opener absent = only sessions that are added are there */
  constructor(opener: SessionOpener | undefined) {
    this.#opener = opener;
  }

  /** Makes another variant available. */
  add(session: DecoderSession): void {
    this.#sessions.set(session.graph.variant, new PairedSession(session, this.#opener?.beside));
  }

  /** The session of a variant, if it is open. */
  find(variant: GraphVariant): DecoderSession | undefined {
    return this.#sessions.get(variant);
  }

  /** The session of a variant that must be open. */
  of(variant: GraphVariant): DecoderSession {
    const session = this.find(variant);
    if (session === undefined) throw new Error(`a row needs the ${variant} graph, which this engine did not open`);
    return session;
  }

  /** Opens the graphs that the adapter needs, if they are not open yet. */
  async openFor(adapter: BoundAdapter): Promise<void> {
    await this.#open('lora');
    if (!needsFullGraph(adapter)) return;
    if (this.#opener === undefined && !this.#sessions.has('full')) throw new Error('the full graph is not open');
    await this.#open('full');
  }

  /** Opens one session that is likely to be needed; false when there is none left to open. */
  async openAhead(): Promise<boolean> {
    if (this.#opener?.lora && !this.#sessions.has('lora')) {
      await this.#open('lora');
      return true;
    }
    const pieces = this.#sessions.has('pieces') ? undefined : await this.#opener?.openPieces?.();
    if (pieces !== undefined) {
      this.add(pieces);
      return true;
    }
    for (const [variant, session] of this.othersExpected ? this.#sessions : []) {
      if (!session.wantsNarrow) continue;
      session.addNarrow(await this.#opener!.openNarrow!(variant));
      return true;
    }
    return false;
  }

  async #open(variant: GraphVariant): Promise<void> {
    if (this.#opener === undefined || this.#sessions.has(variant)) return;
    const opening = this.#opening.get(variant) ?? this.#opener.open(variant).then((session) => this.add(session));
    this.#opening.set(variant, opening);
    try {
      await opening;
    } finally {
      this.#opening.delete(variant);
    }
  }
}
