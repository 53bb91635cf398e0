/** Models and workflows that were registered while the server ran, in the registry, so that they outlive the process. */
import { AppError } from '../errors.js';
import {
  type ChangeAuthor,
  type ChangeNote,
  type RecordChange,
  type RecordKey,
  RegistryConflict,
  type RegistryStore,
} from '../registry/types.js';
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

/**
 * Says that a model was unregistered, and that what is kept of its adapters is to go: a kill may come before it does. The
 * body says since when, in Unix milliseconds.
 */
const LEFT_KIND = 'left-model';

function leftKey(model: string): RecordKey {
  return { kind: LEFT_KIND, scope: '', name: model };
}

/**
 * Deletes what is kept of the adapters and aliases of a model that was unregistered, and the marks of removed ones; all of
 * it or nothing. Without effect where that is done: what is there then belongs to whoever has the name now.
 */
export async function clearAdapters(store: RegistryStore, model: string, call: CallContext): Promise<void> {
  const left = await store.get(leftKey(model));
  if (left === undefined) return;
  const done = { key: leftKey(model), body: null, expected: left.revision, note: { action: 'clear' } };
  try {
    await store.write([...(await adapterDeletions(store, model)), done], authorOf(call));
  } catch (error) {
    if (!(error instanceof RegistryConflict)) throw error;
  }
}

function authorOf(call: CallContext): ChangeAuthor {
  return { actor: call.actor ?? 'server', requestId: call.requestId };
}

/**
 * {@link clearAdapters} for all models that a killed process left so.
 * @param olderThanMs younger ones stay: another process may be about to do it, when their handlers have answered
 */
export async function clearLeftModels(store: RegistryStore, olderThanMs: number, call: CallContext): Promise<void> {
  const before = Date.now() - olderThanMs;
  for (const { name, body } of (await store.list(LEFT_KIND)).records) {
    const { since = 0 } = (body ?? {}) as { readonly since?: number };
    if (since <= before) await clearAdapters(store, name, call);
  }
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
   * The same for a name of which there is no record: servers that take a name at the same time must not both have it.
   * @param readable whether a body that is there is a registration; one that is none is written over
   * @throws AppError MODEL_EXISTS, WORKFLOW_EXISTS where another process has it
   */
  async create(name: string, body: object, call: CallContext, readable: (body: unknown) => boolean): Promise<number> {
    const there = await this.get(name);
    if (there !== undefined && readable(there.body)) throw this.#taken(name);
    try {
      return await this.put(name, body, call, { revision: there?.revision ?? 0 });
    } catch (error) {
      throw error instanceof RegistryConflict ? this.#taken(name) : error;
    }
  }

  #taken(name: string): AppError {
    const message = `a ${this.#kind} ${JSON.stringify(name)} was registered with another server meanwhile`;
    const reason = this.#kind === 'model' ? 'MODEL_EXISTS' : 'WORKFLOW_EXISTS';
    return new AppError(reason, message, { metadata: { [this.#kind]: name } });
  }

  /**
   * Deletes a record.
   * @param expected revision that it must have; absent = any
   * @throws RegistryConflict where it has another
   */
  async delete(name: string, call: CallContext, expected?: number): Promise<void> {
    await this.#store.write([{ ...this.#deletion(name), expected }], authorOf(call));
  }

  /**
   * Deletes a model's record, and notes that {@link clearAdapters} is still to come.
   * @param adapters true: with all that is kept of its adapters now, marks of removed ones too, or nothing goes
   */
  async deleteModel(name: string, call: CallContext, adapters: boolean): Promise<void> {
    const left = { key: leftKey(name), body: { since: Date.now() }, note: { action: 'unregister' } };
    const more = adapters ? await adapterDeletions(this.#store, name) : [];
    await this.#store.write([this.#deletion(name), ...more, left], authorOf(call));
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

  #deletion(name: string): RecordChange {
    return { key: { kind: this.#kind, scope: '', name }, body: null, note: { action: 'unregister' } };
  }

  async #write(name: string, body: object, note: ChangeNote, call: CallContext, expected?: number): Promise<number> {
    const key = { kind: this.#kind, scope: '', name };
    return this.#store.write([{ key, body, note, expected }], authorOf(call));
  }
}
