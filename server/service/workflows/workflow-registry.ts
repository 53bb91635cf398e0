/** The registered workflows by name and version, and those whose registration is under way. */
import { nearNames } from '../../adapters/adapter-names.js';
import { AppError } from '../../errors.js';
import type { Call, Plan } from './calls.js';
import type { WorkflowDefinition } from './definition.js';
import type { WorkflowFunction } from './functions.js';
import { type WorkflowInfo, type WorkflowKey, workflowId } from './types.js';
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
  /** Versions by name, newest last. */
  readonly #versions = new Map<string, Workflow[]>();
  readonly #reserved = new Set<string>();

  /** The workflow that answers for a name: the version asked for, else the newest; undefined = none of that name. */
  find(name: string, version?: string): Workflow | undefined {
    const versions = this.#versions.get(name);
    return version === undefined ? versions?.at(-1) : versions?.find(({ info }) => info.version === version);
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
    return this.#versions.has(name);
  }

  /** Names of the workflows that the server was started with. */
  startupNames(): string[] {
    const names = [...this.#versions.values()].flat().filter(({ info }) => info.startup);
    return [...new Set(names.map(({ info }) => info.name))];
  }

  /** All of them, sorted by name, then version. */
  list(): readonly WorkflowInfo[] {
    const key = ({ name, version }: WorkflowInfo) => `${name}\0${version}`;
    return [...this.#versions.values()]
      .flat()
      .map(({ info }) => info)
      .sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }

  /** All versions of a name, newest first, or the one asked for. Throws WORKFLOW_NOT_FOUND. */
  get(name: string, version?: string): readonly Workflow[] {
    const versions = [...(this.#versions.get(name) ?? [])].reverse();
    const found = version === undefined ? versions : versions.filter(({ info }) => info.version === version);
    if (found.length > 0) return found;
    const known = versions.map(({ info }) => info.version || 'none').join(', ');
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

  /** Throws WORKFLOW_EXISTS where the version is registered, or is being registered. */
  checkFree({ name, version }: WorkflowKey): void {
    const id = workflowId({ name, version });
    if (this.find(name, version) === undefined && !this.#reserved.has(id)) return;
    throw new AppError('WORKFLOW_EXISTS', `workflow ${JSON.stringify(id)} is registered already`, {
      metadata: { workflow: name, version },
    });
  }

  /** Takes a version until {@link unreserve}. Throws WORKFLOW_EXISTS. */
  reserve(key: WorkflowKey): void {
    this.checkFree(key);
    this.#reserved.add(workflowId(key));
  }

  unreserve(key: WorkflowKey): void {
    this.#reserved.delete(workflowId(key));
  }

  /** Adds the newest version of its name. */
  add(workflow: Workflow): void {
    const { name } = workflow.info;
    this.#versions.set(name, [...(this.#versions.get(name) ?? []), workflow]);
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
