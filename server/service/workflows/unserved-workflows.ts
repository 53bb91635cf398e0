/**
 * Kept workflows that could not be registered again: their model is gone, say, or an older version of the server took
 * what is refused now. They are listed with why, keep their name, and go when they are unregistered.
 */
import { AppError } from '../../errors.js';
import { type WorkflowInfo, type WorkflowKey, workflowId } from './types.js';

interface Unserved {
  readonly info: WorkflowInfo & { readonly error: string };
  /** Of its record. */
  readonly revision: number;
}

/** What is kept and not served. */
export class UnservedWorkflows {
  readonly #all = new Map<string, Unserved>();

  /** @param definition as it is kept */
  note(id: string, definition: string, revision: number, error: string): void {
    const [name, version = ''] = id.split('/', 2) as [string, string?];
    const nothing = { models: [], adapters: [], calls: [] };
    const info = { name, version, ...nothing, definition, startup: false, createdAt: Date.now(), error };
    this.#all.set(id, { info, revision });
  }

  /** The workflow is served, or no longer kept. @returns true where it was among these */
  forget(id: string): boolean {
    return this.#all.delete(id);
  }

  list(): readonly WorkflowInfo[] {
    return [...this.#all.values()].map(({ info }) => info);
  }

  /** All versions of a name, newest first, or the one asked for. */
  named(name: string, version?: string): readonly WorkflowInfo[] {
    return this.#named(name, version).map(({ info }) => info);
  }

  /**
   * Why a request gets no answer: MODEL_NOT_READY for a version that is not served, and for a name alone where the newest
   * version is not: an older one is not what was registered last.
   * @param served revision of the newest served version of the name; undefined = none, or it is not kept
   */
  refusal(name: string, version: string | undefined, served: number | undefined): AppError | undefined {
    const [newest] = this.#named(name, version);
    if (newest === undefined || (version === undefined && served !== undefined && served > newest.revision)) return;
    const id = workflowId(newest.info);
    return new AppError('MODEL_NOT_READY', `workflow ${JSON.stringify(id)} is not served: ${newest.info.error}`, {
      metadata: { workflow: name, version: newest.info.version },
    });
  }

  /** Throws WORKFLOW_EXISTS where the version is kept. */
  checkFree(key: WorkflowKey): void {
    const id = workflowId(key);
    const there = this.#all.get(id);
    if (there === undefined) return;
    const { error } = there.info;
    const what = `workflow ${JSON.stringify(id)} is registered, but not served: ${error}; unregister it first`;
    throw new AppError('WORKFLOW_EXISTS', what, { metadata: { workflow: key.name, version: key.version } });
  }

  #named(name: string, version: string | undefined): readonly Unserved[] {
    return [...this.#all.values()]
      .filter(({ info }) => info.name === name && (version === undefined || info.version === version))
      .sort((a, b) => b.revision - a.revision);
  }
}
