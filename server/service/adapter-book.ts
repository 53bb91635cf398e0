/** Makes changes of names durable before anybody sees them, one at a time for each name. */
import type { AdapterRegistry } from '../adapters/registry.js';
import { AppError } from '../errors.js';
import { type ChangeNote, RegistryConflict, type RegistryStore, type StoredRecord } from '../registry/types.js';
import { ADAPTER_KIND, type AdapterRecord } from './adapter-records.js';
import type { CallContext } from './types.js';

/** How often a change is made again that another process came before. */
const MAX_TRIES = 5;

/** No name, but as one to wait for. */
const LINKS = '';

/** Who changes: the part of a call that the log keeps. */
export type Author = Pick<CallContext, 'actor' | 'requestId'>;

/** The stored side of the adapters of all models. */
export class AdapterBook {
  readonly store: RegistryStore;
  private readonly tails = new Map<string, Promise<unknown>>();

  constructor(store: RegistryStore) {
    this.store = store;
  }

  /** Runs when every earlier call for the name has ended. */
  async exclusive<T>(model: string, name: string, run: () => Promise<T>): Promise<T> {
    const key = JSON.stringify([model, name]);
    const before = this.tails.get(key) ?? Promise.resolve();
    const result = before.then(run);
    const tail = result.catch(() => {});
    this.tails.set(key, tail);
    try {
      return await result;
    } finally {
      if (this.tails.get(key) === tail) this.tails.delete(key);
    }
  }

  /**
   * Runs when every earlier call for the model has ended. Inside of {@link exclusive}, and nothing waits for another name
   * inside: what an alias leads to and what is deleted are different names, but must not change past one another.
   */
  linked<T>(model: string, run: () => Promise<T>): Promise<T> {
    return this.exclusive(model, LINKS, run);
  }

  /**
   * {@link exclusive} for a change: made again, on what the name is then, where another process came before.
   * @throws AppError VERSION_CONFLICT when others come before every time
   */
  async change<T>(
    model: string,
    name: string,
    run: () => Promise<T>,
    refresh: (model: string, name: string) => Promise<void>,
  ): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.exclusive(model, name, run);
      } catch (error) {
        if (!(error instanceof RegistryConflict)) throw error;
        if (tries === MAX_TRIES) {
          const message = `${JSON.stringify(name)} is being changed by others all the time; try again`;
          throw new AppError('VERSION_CONFLICT', message, { cause: error });
        }
      }
      await refresh(model, name);
    }
  }

  /**
   * Stores what a name is from now on; null = nothing. Inside of {@link exclusive}.
   * @returns the revision, 0 after a deletion
   * @throws RegistryConflict when another process has changed the name; AppError REGISTRY_UNAVAILABLE
   */
  async commit(
    registry: AdapterRegistry,
    key: { readonly model: string; readonly name: string },
    body: AdapterRecord | null,
    note: ChangeNote,
    author: Author,
  ): Promise<number> {
    const { model: scope, name } = key;
    const expected = registry.revisionOf(name);
    const by = { actor: author.actor ?? 'server', requestId: author.requestId };
    const revision = await this.store.write([{ key: { kind: ADAPTER_KIND, scope, name }, body, expected, note }], by);
    const stored = body === null ? 0 : revision;
    registry.setRevision(name, stored);
    return stored;
  }

  get(model: string, name: string): Promise<StoredRecord | undefined> {
    return this.store.get({ kind: ADAPTER_KIND, scope: model, name });
  }
}
