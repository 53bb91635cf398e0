/** How what is served is, by the names that requests use: models and workflows. */
import type { Changes } from './changes.js';
import type { ModelManagement, ModelStatus } from './management.js';
import type { WorkflowInfo, WorkflowService } from './workflows/types.js';

/** What health checks ask. */
export interface ServedHealth {
  /** All names, each once. */
  names(): readonly string[];
  /** True: requests of the name are answered; false: not yet, or not any more; undefined: nothing has the name. */
  answers(name: string): boolean | undefined;
  /** False once an engine has stopped, which only a restart of the server repairs, and while one does not move. */
  readonly whole: boolean;
  /** Calls back whenever an answer may have changed. @returns stops it */
  onChange(listener: () => void): () => void;
}

/** True for a model whose engine ran and has stopped, or does not move, unlike one that could not be loaded. */
export function hasStopped({ state, info }: ModelStatus): boolean {
  return state === 'failed' && info !== undefined;
}

/** @param changes told of every change of either */
export function servedHealth(
  models: Pick<ModelManagement, 'list'>,
  workflows: Pick<WorkflowService, 'list'> & {
    /** What answers for a name; undefined = nothing does. */
    find(name: string): { readonly info: WorkflowInfo } | undefined;
  },
  changes: Changes,
): ServedHealth {
  const ready = () => new Map(models.list().map(({ name, state }) => [name, state === 'ready']));
  return {
    names: () => [...new Set([...models.list(), ...workflows.list()].map(({ name }) => name))],
    answers(name) {
      const known = ready();
      if (!workflows.list().some((one) => one.name === name)) return known.get(name);
      // The newest version answers where none is named.
      const newest = workflows.find(name);
      return newest?.info.models.every(({ served }) => known.get(served) === true) ?? false;
    },
    get whole() {
      return !models.list().some(hasStopped);
    },
    onChange: (listener) => changes.on(listener),
  };
}
