/** The registered workflows by name and version, and those whose registration is under way. */
import { nearNames } from '../../adapters/adapter-names.js';
import { AppError } from '../../errors.js';
import type { Call, Plan } from './calls.js';
import type { WorkflowDefinition } from './definition.js';
import type { WorkflowFunction } from './functions.js';
import { type WorkflowInfo, type WorkflowKey, workflowId } from './types.js';
import { UnservedWorkflows } from './unserved-workflows.js';
import type { Parts } from './workflow-parts.js';

/** A registered workflow with what its calls need. */
export interface Workflow {
  readonly info: WorkflowInfo;
  /** What is called, with local names of models. */
  readonly plan: Plan;
  /** Its calls of models, in order, with served names. */
  readonly calls: readonly Call[];
  /** The name that a model is served under. */
  servedAs(local: string): string;
  readonly functions: ReadonlyMap<string, WorkflowFunction>;
  /** Revision that its record was written with; absent = it is not kept. */
  readonly revision?: number | undefined;
}

/** A workflow of its definition and what it has got. */
export function workflowOf(definition: WorkflowDefinition, parts: Parts, startup: boolean): Workflow {
  const { name, version, plan, json } = definition;
  const { models, adapters, functions } = parts;
  const served = new Map(models.map((model) => [model.local, model.served]));
  const servedAs = (local: string) => served.get(local)!;
  const info: WorkflowInfo = {
    ...{ name, version, models, adapters, startup },
    calls: callTexts(plan, servedAs),
    definition: json,
    createdAt: Date.now(),
  };
  const calls = plan.calls.map((one) => ({ ...one, model: servedAs(one.model) }));
  return { info, plan, calls, servedAs, functions };
}

/** What is told of the calls, in order. */
function callTexts({ order }: Plan, servedAs: (local: string) => string): string[] {
  return order.map((value) => {
    if (value.kind === 'function') return `function ${value.name}`;
    const { model, adapter } = value.call;
    return adapter === undefined ? servedAs(model) : `adapter ${adapter} of ${servedAs(model)}`;
  });
}

/** Names of workflows with their versions. */
export class WorkflowRegistry {
  /** Those that are kept and not served: they have names, too. */
  readonly unserved = new UnservedWorkflows();
  /** Versions by name, newest last. */
  readonly #versions = new Map<string, Workflow[]>();
  readonly #reserved = new Set<string>();

  /** The workflow that answers for a name: the version asked for, else the newest; undefined = that is not served. */
  find(name: string, version?: string): Workflow | undefined {
    const versions = this.#versions.get(name);
    if (version !== undefined) return versions?.find(({ info }) => info.version === version);
    return this.refusal(name) === undefined ? versions?.at(-1) : undefined;
  }

  /** MODEL_NOT_READY for a name, or `name/version`, that is kept and not served; undefined for any other. */
  refusal(id: string): AppError | undefined {
    const [name, version] = id.split('/', 2);
    return this.unserved.refusal(name!, version, this.#versions.get(name!)?.at(-1)?.revision);
  }

  /** The workflow of a name, or of `name/version`. */
  byId(id: string): Workflow | undefined {
    const [name, version] = id.split('/', 2);
    return this.find(name!, version);
  }

  /** The workflow that has exactly this id: a name alone is that of the one without a version. */
  exactly(id: string): Workflow | undefined {
    const [name, version = ''] = id.split('/', 2);
    return this.find(name!, version);
  }

  /** True when a workflow has the name, in any version. */
  has(name: string): boolean {
    return this.#versions.has(name) || this.unserved.named(name).length > 0;
  }

  /** Names of the workflows that the server was started with. */
  startupNames(): string[] {
    const names = [...this.#versions.values()].flat().filter(({ info }) => info.startup);
    return [...new Set(names.map(({ info }) => info.name))];
  }

  /** All of them, sorted by name, then version. */
  list(): readonly WorkflowInfo[] {
    const key = ({ name, version }: WorkflowInfo) => `${name}\0${version}`;
    const served = [...this.#versions.values()].flat().map(({ info }) => info);
    return [...served, ...this.unserved.list()].sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }

  /** All versions of a name that are served, newest first, or the one asked for. */
  served(name: string, version?: string): readonly Workflow[] {
    const versions = [...(this.#versions.get(name) ?? [])].reverse();
    return version === undefined ? versions : versions.filter(({ info }) => info.version === version);
  }

  /**
   * All versions of a name, or the one asked for: those that are served, newest first, then those that are not.
   * @throws WORKFLOW_NOT_FOUND
   */
  get(name: string, version?: string): readonly WorkflowInfo[] {
    const versions = [...this.served(name).map(({ info }) => info), ...this.unserved.named(name)];
    const found = version === undefined ? versions : versions.filter((one) => one.version === version);
    if (found.length > 0) return found;
    const known = versions.map((one) => one.version || 'none').join(', ');
    const near = nearNames(name, this.#versions.keys());
    const hint =
      versions.length > 0 ? `; versions: ${known}` : near.length > 0 ? `; near names: ${near.join(', ')}` : '';
    const what = version === undefined ? 'is registered' : `has version ${JSON.stringify(version)}`;
    throw new AppError('WORKFLOW_NOT_FOUND', `no workflow ${JSON.stringify(name)} ${what}${hint}`, {
      metadata: { workflow: name, ...(near.length > 0 && versions.length === 0 && { near: near.join(',') }) },
    });
  }

  /** True where the registration of an id is under way. */
  isReserved(id: string): boolean {
    return this.#reserved.has(id);
  }

  /**
   * Throws WORKFLOW_EXISTS where the version is registered, or is being registered.
   * @param revision of the record that is brought back; absent = none is
   */
  checkFree({ name, version }: WorkflowKey, revision?: number): void {
    const id = workflowId({ name, version });
    this.unserved.checkFree({ name, version }, revision);
    if (this.find(name, version) === undefined && !this.#reserved.has(id)) return;
    throw new AppError('WORKFLOW_EXISTS', `workflow ${JSON.stringify(id)} is registered already`, {
      metadata: { workflow: name, version },
    });
  }

  /** Takes a version until {@link unreserve}. Throws WORKFLOW_EXISTS. */
  reserve(key: WorkflowKey, revision?: number): void {
    this.checkFree(key, revision);
    this.#reserved.add(workflowId(key));
  }

  unreserve(key: WorkflowKey): void {
    this.#reserved.delete(workflowId(key));
  }

  /** Adds a version: the newest of its name, but for those that are kept, whose records tell which was registered later. */
  add(workflow: Workflow): void {
    const { info, revision = Infinity } = workflow;
    this.unserved.forget(workflowId(info));
    const versions = this.#versions.get(info.name) ?? [];
    const isLater = (one: Workflow) => one.revision !== undefined && one.revision > revision;
    this.#versions.set(info.name, [
      ...versions.filter((one) => !isLater(one)),
      workflow,
      ...versions.filter((one) => isLater(one)),
    ]);
  }

  /** Takes a version away. @returns false where that was done already */
  remove(workflow: Workflow): boolean {
    const { name } = workflow.info;
    const versions = this.#versions.get(name) ?? [];
    if (!versions.includes(workflow)) return false;
    const left = versions.filter((one) => one !== workflow);
    if (left.length > 0) this.#versions.set(name, left);
    else this.#versions.delete(name);
    return true;
  }
}
