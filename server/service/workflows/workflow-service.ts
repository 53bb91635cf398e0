/** Registers workflows: loads their models and adapters, or shares what is there; all of it or nothing. */
import { z } from 'zod';
import { nearNames } from '../../adapters/adapter-names.js';
import { AppError } from '../../errors.js';
import type { AdapterLog } from '../adapter-service.js';
import type { Changes } from '../changes.js';
import type { KeptRecord, KeptRecords } from '../kept-records.js';
import type { ModelManager } from '../model-manager.js';
import type { CallContext } from '../types.js';
import { AdapterClaims, type WorkflowAdapters } from './adapter-claims.js';
import type { Call, Plan } from './calls.js';
import type { WorkflowDefinition } from './definition.js';
import type { WorkflowFunction, WorkflowFunctions } from './functions.js';
import { definitionFile, isDefinition, readDefinition } from './source.js';
import type { WorkflowAdapter, WorkflowInfo, WorkflowModel, WorkflowService, WorkflowSource } from './types.js';

/** What the service is made of. */
export interface WorkflowServiceOptions {
  readonly models: Pick<ModelManager, 'retain' | 'release'>;
  readonly adapters: WorkflowAdapters;
  /** True: a model that was registered by itself has the name. */
  readonly taken: (name: string) => boolean;
  /** Folders that definitions may be read from while the server runs. */
  readonly roots: readonly string[];
  /** Where workflows that are registered while the server runs are kept; absent = nowhere. */
  readonly kept?: KeptRecords | undefined;
  /** True: the model was registered by itself, so its adapters may be somebody else's. */
  readonly direct: (model: string) => boolean;
  /** Age from which an adapter without its workflow is left over, in milliseconds; default 0. */
  readonly leftoverMs?: number | undefined;
  /** Told whenever a workflow comes or goes; absent = nobody is. */
  readonly changes?: Changes | undefined;
  /** Runs functions that workflows bring; absent = workflows with functions are refused. */
  readonly functions?: WorkflowFunctions | undefined;
  readonly log: AdapterLog;
}

/** What is kept of a workflow. */
const savedWorkflow = z.object({
  definition: z.string(),
  /** Adapters that the workflow registered, by name: they go with it. */
  owned: z.array(z.string()),
});

/** Body of a record of kind `workflow`. */
export type SavedWorkflow = z.infer<typeof savedWorkflow>;

/** How a registration comes about. */
interface Registration {
  readonly startup?: boolean;
  /** Keep it in the registry. */
  readonly keep?: boolean;
  /** What was kept, and the revision of its record, where it is registered again. */
  readonly saved?: SavedWorkflow;
  readonly revision?: number;
}

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

/** The registered workflows. */
export class Workflows implements WorkflowService {
  readonly #options: WorkflowServiceOptions;
  readonly #claims: AdapterClaims;
  /** Versions by name, newest last. */
  readonly #registered = new Map<string, Workflow[]>();
  /** Ids whose registration is under way. */
  readonly #reserved = new Set<string>();

  constructor(options: WorkflowServiceOptions) {
    this.#options = options;
    this.#claims = new AdapterClaims(options.adapters);
  }

  /** The workflow that answers for a name: the version asked for, else the newest; undefined = none of that name. */
  find(name: string, version?: string): Workflow | undefined {
    const versions = this.#registered.get(name);
    return version === undefined ? versions?.at(-1) : versions?.find(({ info }) => info.version === version);
  }

  /** The workflow of a name, or of `name/version`. */
  byId(id: string): Workflow | undefined {
    const [name, version] = id.split('/', 2);
    return this.find(name!, version);
  }

  /** True when a workflow has the name, in any version. */
  has(name: string): boolean {
    return this.#registered.has(name);
  }

  /** True where a folder or file that the server was started with is a workflow. */
  isWorkflow(place: string): boolean {
    return isDefinition(place);
  }

  /** Names of the workflows that the server was started with. */
  startupNames(): string[] {
    const names = [...this.#registered.values()].flat().filter(({ info }) => info.startup);
    return [...new Set(names.map(({ info }) => info.name))];
  }

  list(): readonly WorkflowInfo[] {
    const key = ({ name, version }: WorkflowInfo) => `${name}\0${version}`;
    return [...this.#registered.values()]
      .flat()
      .map(({ info }) => info)
      .sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }

  get(name: string, version?: string): readonly WorkflowInfo[] {
    const versions = [...(this.#registered.get(name) ?? [])].reverse().map(({ info }) => info);
    const found = version === undefined ? versions : versions.filter((info) => info.version === version);
    if (found.length > 0) return found;
    const known = versions.map((info) => info.version || 'none').join(', ');
    const near = nearNames(name, this.#registered.keys());
    const hint =
      versions.length > 0 ? `; versions: ${known}` : near.length > 0 ? `; near names: ${near.join(', ')}` : '';
    const what = version === undefined ? 'is registered' : `has version ${JSON.stringify(version)}`;
    throw new AppError('WORKFLOW_NOT_FOUND', `no workflow ${JSON.stringify(name)} ${what}${hint}`, {
      metadata: { workflow: name, ...(near.length > 0 && versions.length === 0 && { near: near.join(',') }) },
    });
  }

  async register(source: WorkflowSource, call: CallContext): Promise<WorkflowInfo> {
    return this.#register(await readDefinition(source, this.#options.roots), call, { keep: true });
  }

  async schedule(source: WorkflowSource, call: CallContext): Promise<{ name: string; version: string }> {
    const definition = await readDefinition(source, this.#options.roots);
    this.#checkFree(definition);
    this.#register(definition, call, { keep: true }).catch((error: unknown) => {
      const fields = { workflow: definition.name, err: error };
      this.#options.log.warn(fields, `workflow ${definition.name} failed: ${AppError.from(error).message}`);
    });
    return definition;
  }

  async definitionAt(url: string): Promise<boolean> {
    try {
      return (await definitionFile(url, this.#options.roots)) !== undefined;
    } catch (error) {
      if (error instanceof AppError) return false;
      throw error;
    }
  }

  /** Registers a workflow that the server was started with; its file may lie anywhere. */
  async registerAtStart(url: string): Promise<WorkflowInfo> {
    return this.#register(await readDefinition({ kind: 'url', url }, undefined), callOf('start'), { startup: true });
  }

  /**
   * Registers again what was kept, and follows changes by other processes; what cannot be registered any more is told
   * in the log and stays kept. @returns stops following
   */
  async restore(): Promise<() => Promise<void>> {
    const { kept } = this.#options;
    if (kept === undefined) return async () => {};
    const { records, revision } = await kept.list();
    for (const record of records) await this.#bringBack(record);
    await this.#removeLeftovers(records);
    return kept.follow(revision, async (record) => {
      const { name: id, body, revision } = record;
      if (body !== undefined) {
        const now = await kept.get(id);
        if (now?.revision === revision) await this.#bringBack(record);
        return;
      }
      const workflow = this.byId(id);
      if (workflow === undefined || workflow.info.startup || this.#reserved.has(id)) return;
      // It was registered again since.
      if (workflow.revision === undefined || workflow.revision > revision) return;
      this.#forget([workflow.info]);
      await this.#free(workflow, callOf('follow')).catch((error: unknown) =>
        this.#options.log.warn({ workflow: id, err: error }, 'unregistering failed'),
      );
    });
  }

  /** What a workflow could not be brought back with is still its own. */
  async #removeLeftovers(records: readonly KeptRecord[]): Promise<void> {
    const { adapters, leftoverMs = 0, log } = this.#options;
    const owned = records.flatMap(({ body }) => savedWorkflow.safeParse(body).data?.owned ?? []);
    const leftovers = { owned: new Set([...owned, ...this.#claims.names()]), olderThanMs: leftoverMs };
    await adapters
      .removeLeftovers(leftovers, callOf('restore'))
      .catch((error: unknown) => log.warn({ err: error }, 'adapters that workflows left are not looked for'));
  }

  async #bringBack({ name: id, body, revision }: KeptRecord): Promise<void> {
    if (this.byId(id) !== undefined || this.#reserved.has(id)) return;
    try {
      const saved = savedWorkflow.parse(body);
      const definition = await readDefinition({ kind: 'text', text: saved.definition }, []);
      await this.#register(definition, callOf('restore'), { saved, revision });
    } catch (error) {
      const why = error instanceof AppError ? error.message : String(error);
      this.#options.log.warn({ workflow: id, err: error }, `the kept workflow ${id} is not served: ${why}`);
    }
  }

  async unregister(name: string, version: string | undefined, call: CallContext): Promise<readonly WorkflowInfo[]> {
    const infos = this.get(name, version);
    const workflows = this.#workflowsOf(infos);
    for (const info of infos) if (!info.startup) await this.#options.kept?.delete(idOf(info), call);
    this.#forget(infos);
    await Promise.all(workflows.map((workflow) => this.#free(workflow, call)));
    this.#options.log.info({ workflow: name, version }, 'workflow unregistered');
    return infos;
  }

  #workflowsOf(infos: readonly WorkflowInfo[]): Workflow[] {
    return infos.flatMap((info) => this.#registered.get(info.name)?.filter((one) => one.info === info) ?? []);
  }

  /** Takes versions of one name away. */
  #forget(infos: readonly WorkflowInfo[]): void {
    for (const { name } of infos.slice(0, 1)) {
      const left = (this.#registered.get(name) ?? []).filter(({ info }) => !infos.includes(info));
      if (left.length > 0) this.#registered.set(name, left);
      else this.#registered.delete(name);
    }
    this.#options.changes?.notify();
  }

  async #register(
    definition: WorkflowDefinition,
    call: CallContext,
    registration: Registration,
  ): Promise<WorkflowInfo> {
    const { startup = false, keep = false } = registration;
    const { name, version } = definition;
    const id = idOf(definition);
    this.#checkFree(definition);
    this.#reserved.add(id);
    const models: WorkflowModel[] = [];
    const adapters: WorkflowAdapter[] = [];
    const functions = new Map<string, WorkflowFunction>();
    try {
      for (const warning of definition.warnings) this.#options.log.warn({ workflow: name }, warning);
      await this.#open(definition, functions);
      await this.#acquire(definition, registration, models, adapters, call);
      call.signal.throwIfAborted();
      const served = new Map(models.map((model) => [model.local, model.served]));
      const servedAs = (local: string) => served.get(local)!;
      const { plan } = definition;
      const calls = plan.calls.map((one) => ({ ...one, model: servedAs(one.model) }));
      const info: WorkflowInfo = {
        name,
        version,
        models,
        adapters,
        calls: callTexts(plan, servedAs),
        definition: definition.json,
        startup,
        createdAt: Date.now(),
      };
      const owned = adapters.filter((adapter) => this.#claims.isOwned(adapter)).map((adapter) => adapter.name);
      const saved: SavedWorkflow = { definition: definition.json, owned };
      const readable = (body: unknown) => savedWorkflow.safeParse(body).success;
      const revision = keep ? await this.#options.kept?.create(id, saved, call, readable) : registration.revision;
      const workflow: Workflow = { info, plan, calls, servedAs, functions, revision };
      this.#registered.set(name, [...(this.#registered.get(name) ?? []), workflow]);
      this.#options.changes?.notify();
      this.#options.log.info({ workflow: name, version }, 'workflow registered');
      return info;
    } catch (error) {
      await this.#free({ info: { name, version, models, adapters }, functions }, call);
      if (keep) void this.#bringBackNow(id);
      throw error;
    } finally {
      this.#reserved.delete(id);
    }
  }

  /** Registers what is kept under an id that was reserved here while another process registered it. */
  async #bringBackNow(id: string): Promise<void> {
    const record = await this.#options.kept?.get(id).catch(() => undefined);
    if (record !== undefined) await this.#bringBack(record);
  }

  /** Throws WORKFLOW_EXISTS, MODEL_EXISTS. */
  #checkFree({ name, version }: WorkflowDefinition): void {
    const id = idOf({ name, version });
    if (this.find(name, version) !== undefined || this.#reserved.has(id)) {
      throw new AppError('WORKFLOW_EXISTS', `workflow ${JSON.stringify(id)} is registered already`, {
        metadata: { workflow: name, version },
      });
    }
    if (this.#options.taken(name)) {
      throw new AppError('MODEL_EXISTS', `a model ${JSON.stringify(name)} is registered already`);
    }
  }

  /** Fills `models` and `adapters` as it gets them, so that a failure knows what to give back. */
  async #acquire(
    definition: WorkflowDefinition,
    { startup, keep, saved }: Registration,
    models: WorkflowModel[],
    adapters: WorkflowAdapter[],
    call: CallContext,
  ): Promise<void> {
    const user = { workflow: definition.name, id: idOf(definition) };
    for (const [local, { url, overrides }] of definition.models) {
      const served = await this.#options.models.retain(user, local, url, overrides, call.signal);
      models.push({ local, served, url });
    }
    const served = new Map(models.map((model) => [model.local, model.served]));
    for (const [name, { model, source, ...rest }] of definition.adapters) {
      const adapter = { name, model: served.get(model)!, source };
      // The registry may have brought back what this workflow registered before.
      const own = saved ? saved.owned.includes(name) : startup && !this.#options.direct(adapter.model);
      const request = { ...adapter, ...rest, ...(keep && { workflow: user.id }) };
      await this.#claims.claim(request, call, own ? (saved ? 'keep' : 'replace') : undefined);
      adapters.push(adapter);
    }
  }

  /** Starts the functions; fills the map as it gets them, so that a failure knows what to give back. */
  async #open({ name: workflow, functions }: WorkflowDefinition, opened: Map<string, WorkflowFunction>): Promise<void> {
    for (const [name, { module, properties }] of functions) {
      if (this.#options.functions === undefined) {
        throw new AppError('WORKFLOW_INVALID', `workflow ${workflow} brings functions, which are not run here`);
      }
      opened.set(name, await this.#options.functions.open({ workflow, name, module, properties }));
    }
  }

  async #free(
    {
      info: workflow,
      functions,
    }: Pick<Workflow, 'functions'> & {
      readonly info: Pick<WorkflowInfo, 'name' | 'version' | 'models' | 'adapters'>;
    },
    call: CallContext,
  ): Promise<void> {
    await Promise.all([...functions.values()].map((one) => one.release()));
    for (const adapter of workflow.adapters) await this.#claims.release(adapter, call);
    const served = new Set(workflow.models.map((model) => model.served));
    await Promise.all([...served].map((model) => this.#options.models.release(idOf(workflow), model)));
  }
}

/** What is told of the calls, in order. */
function callTexts({ order }: Plan, servedAs: (local: string) => string): string[] {
  return order.map((value) => {
    if (value.kind === 'function') return `function ${value.name}`;
    const { model, adapter } = value.call;
    return adapter === undefined ? servedAs(model) : `adapter ${adapter} of ${servedAs(model)}`;
  });
}

/** `name`, or `name/version`. */
function idOf({ name, version }: { readonly name: string; readonly version: string }): string {
  return version === '' ? name : `${name}/${version}`;
}

function callOf(requestId: string): CallContext {
  return { requestId, signal: new AbortController().signal };
}
