/**
 * Kept workflows that could not be registered again: their model is gone, say, or an older version of the server took
 * what is refused now. They are listed with why, keep their name, and go when they are unregistered.
 */
import { AppError } from '../../errors.js';
import { LOOK_AGAIN_MS } from '../look-again.js';
import { type WorkflowInfo, type WorkflowKey, workflowId } from './types.js';

/** What a client is told to wait at least. */
const SOONEST_MS = 1000;

interface Unserved {
  readonly info: WorkflowInfo & { readonly error: string };
  /** Of its record. */
  readonly revision: number;
  /** When it may be tried again, by the process' clock; undefined = never, as nothing but its record is to blame. */
  againAt: number | undefined;
  isTriedAgain: boolean;
}

/** What is told of a failure. */
export const messageOf = (thrown: unknown): string => (thrown instanceof AppError ? thrown.message : String(thrown));

/** What is kept and not served. */
export class UnservedWorkflows {
  readonly #all = new Map<string, Unserved>();

  /**
   * @param definition as it is kept
   * @param thrown by the try to register it
   */
  note(id: string, definition: string, revision: number, thrown: unknown): void {
    const error = messageOf(thrown);
    // What a workflow needs may be there later; what it says stays the same.
    const isPassing = thrown instanceof AppError && thrown.reason !== 'WORKFLOW_INVALID';
    const [name, version = ''] = id.split('/', 2) as [string, string?];
    const nothing = { models: [], adapters: [], calls: [] };
    const info = { name, version, ...nothing, definition, startup: false, createdAt: Date.now(), error };
    const againAt = isPassing ? performance.now() + LOOK_AGAIN_MS : undefined;
    this.#all.set(id, { info, revision, againAt, isTriedAgain: false });
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
    const { againAt, isTriedAgain } = newest;
    const waitMs = isTriedAgain || againAt === undefined ? 0 : Math.ceil(againAt - performance.now());
    return new AppError('MODEL_NOT_READY', `workflow ${JSON.stringify(id)} is not served: ${newest.info.error}`, {
      metadata: { workflow: name, version: newest.info.version },
      ...(againAt !== undefined && { retryAfterMs: Math.max(SOONEST_MS, waitMs) }),
    });
  }

  /** Id of the version that answers for a name where it is to be tried again now; it is told once. */
  due(name: string, version: string | undefined): string | undefined {
    const [newest] = this.#named(name, version);
    if (newest?.againAt === undefined || newest.againAt > performance.now()) return undefined;
    newest.againAt = performance.now() + LOOK_AGAIN_MS;
    newest.isTriedAgain = true;
    return workflowId(newest.info);
  }

  /**
   * Throws WORKFLOW_EXISTS where the version is kept.
   * @param revision of the record that is brought back; absent = none is
   */
  checkFree(key: WorkflowKey, revision = -1): void {
    const id = workflowId(key);
    const there = this.#all.get(id);
    if (there === undefined || there.revision <= revision) return;
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
