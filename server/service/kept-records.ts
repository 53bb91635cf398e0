/** Models and workflows that were registered while the server ran, in the registry, so that they outlive the process. */
import type { ChangeAuthor, ChangeNote, RecordChange, RegistryStore } from '../registry/types.js';
import { ADAPTER_KIND } from './adapter-records.js';
import type { CallContext } from './types.js';

async function adapterDeletions(store: RegistryStore, model: string): Promise<RecordChange[]> {
  const { records } = await store.list(ADAPTER_KIND, model);
  return records.map(({ kind, scope, name }) => ({
    key: { kind, scope, name },
    body: null,
    note: { action: 'delete', detail: { model } },
  }));
}

/** Deletes what is kept of the adapters and aliases of a model, and the marks of removed ones; all of it or nothing. */
export async function clearAdapters(store: RegistryStore, model: string, call: CallContext): Promise<void> {
  const changes = await adapterDeletions(store, model);
  if (changes.length > 0) await store.write(changes, authorOf(call));
}

function authorOf(call: CallContext): ChangeAuthor {
  return { actor: call.actor ?? 'server', requestId: call.requestId };
}

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

  /**
   * Deletes a record.
   * @param adapters true: with all that is kept of the model's adapters, marks of removed ones too, or nothing goes
   */
  async delete(name: string, call: CallContext, adapters = false): Promise<void> {
    const key = { kind: this.#kind, scope: '', name };
    const more = adapters ? await adapterDeletions(this.#store, name) : [];
    await this.#store.write([{ key, body: null, note: { action: 'unregister' } }, ...more], authorOf(call));
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

  async #write(name: string, body: object, note: ChangeNote, call: CallContext, expected?: number): Promise<number> {
    const key = { kind: this.#kind, scope: '', name };
    return this.#store.write([{ key, body, note, expected }], authorOf(call));
  }
}
