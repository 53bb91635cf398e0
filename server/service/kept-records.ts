/** Models and workflows that were registered while the server ran, in the registry, so that they outlive the process. */
import type { ChangeNote, RegistryStore } from '../registry/types.js';
import type { CallContext } from './types.js';

/** One kept registration. */
export interface KeptRecord {
  readonly name: string;
  readonly body: unknown;
  /** Revision of the registry that wrote it. */
  readonly revision: number;
}

/** Records of one kind. */
export class KeptRecords {
  readonly #store: RegistryStore;
  readonly #kind: string;

  constructor(store: RegistryStore, kind: 'model' | 'workflow') {
    this.#store = store;
    this.#kind = kind;
  }

  /** All records, by name, and the revision that this is the state of. */
  async list(): Promise<{ readonly records: readonly KeptRecord[]; readonly revision: number }> {
    return this.#store.list(this.#kind, '');
  }

  /** The record as it is now; undefined = there is none. */
  async get(name: string): Promise<KeptRecord | undefined> {
    return this.#store.get({ kind: this.#kind, scope: '', name });
  }

  /**
   * Resolves with the record's revision once it would survive a crash.
   * @param change `action`: what the log calls it; `revision`: that the record must have now
   * @throws RegistryConflict where the record has another revision, or is gone
   */
  async put(
    name: string,
    body: object,
    call: CallContext,
    { action = 'register', revision }: { readonly action?: string; readonly revision?: number } = {},
  ): Promise<number> {
    return this.#write(name, body, { action }, call, revision);
  }

  async delete(name: string, call: CallContext): Promise<void> {
    await this.#write(name, null, { action: 'unregister' }, call);
  }

  /**
   * Calls back with what changed after a revision, by whomever; a deleted record has no body. What is told may be
   * outdated: while one change was dealt with, the next ones may have been followed by others.
   * @returns stops it
   */
  follow(revision: number, onChange: (change: KeptRecord) => Promise<void>): () => Promise<void> {
    return this.#store.follow(revision, async (changes) => {
      for (const { key, record, revision } of changes) {
        if (key.kind === this.#kind) await onChange({ name: key.name, body: record?.body, revision });
      }
    });
  }

  async #write(
    name: string,
    body: object | null,
    note: ChangeNote,
    call: CallContext,
    expected?: number,
  ): Promise<number> {
    const key = { kind: this.#kind, scope: '', name };
    const author = { actor: call.actor ?? 'server', requestId: call.requestId };
    return this.#store.write([{ key, body, note, expected }], author);
  }
}
