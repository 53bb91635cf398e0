/** Models and workflows that were registered while the server ran, in the registry, so that they outlive the process. */
import type { ChangeNote, RegistryStore } from '../registry/types.js';
import type { CallContext } from './types.js';

/** One kept registration. */
export interface KeptRecord {
  readonly name: string;
  readonly body: unknown;
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

  /** Resolves once it would survive a crash. */
  async put(name: string, body: object, call: CallContext): Promise<void> {
    await this.#write(name, body, { action: 'register' }, call);
  }

  async delete(name: string, call: CallContext): Promise<void> {
    await this.#write(name, null, { action: 'unregister' }, call);
  }

  /** Calls back with what changed after a revision, by whomever; a deleted record has no body. @returns stops it */
  follow(
    revision: number,
    onChange: (change: { readonly name: string; readonly body: unknown }) => Promise<void>,
  ): () => Promise<void> {
    return this.#store.follow(revision, async (changes) => {
      for (const { key, record } of changes) {
        if (key.kind === this.#kind) await onChange({ name: key.name, body: record?.body });
      }
    });
  }

  async #write(name: string, body: object | null, note: ChangeNote, call: CallContext): Promise<void> {
    const key = { kind: this.#kind, scope: '', name };
    const author = { actor: call.actor ?? 'server', requestId: call.requestId };
    await this.#store.write([{ key, body, note }], author);
  }
}
