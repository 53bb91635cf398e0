/** Registers workflows: loads what they need, or shares what is there, all of it or nothing; keeps them in the registry. */
import { z } from 'zod';
import { AppError } from '../../errors.js';
import type { AdapterLog } from '../adapter-service.js';
import type { Changes } from '../changes.js';
import type { KeptRecord, KeptRecords } from '../kept-records.js';
import type { CallContext } from '../types.js';
import type { WorkflowDefinition } from './definition.js';
import { definitionFile, isDefinition, readDefinition } from './source.js';
import { type WorkflowInfo, type WorkflowService, type WorkflowSource, workflowId } from './types.js';
import { messageOf } from './unserved-workflows.js';
import { type Parts, type PartsOptions, type PartsOrigin, WorkflowParts } from './workflow-parts.js';
import { type Workflow, WorkflowRegistry, workflowOf } from './workflow-registry.js';

/** What the service is made of. */
export interface WorkflowServiceOptions extends PartsOptions {
  /** True: a model that was registered by itself has the name. */
  readonly taken: (name: string) => boolean;
  /** Folders that definitions may be read from while the server runs. */
  readonly roots: readonly string[];
  /** Where workflows that are registered while the server runs are kept; absent = nowhere. */
  readonly kept?: KeptRecords | undefined;
  /** Age from which an adapter without its workflow is left over, in milliseconds; default 0. */
  readonly leftoverMs?: number | undefined;
  /** Told whenever a workflow comes or goes; absent = nobody is. */
  readonly changes?: Changes | undefined;
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
interface Registration extends PartsOrigin {
  /** Revision of its record, where it is registered again. */
  readonly revision?: number;
}

/** The registered workflows. */
export class Workflows implements WorkflowService {
  readonly #options: WorkflowServiceOptions;
  readonly #parts: WorkflowParts;
  readonly #registry = new WorkflowRegistry();

  constructor(options: WorkflowServiceOptions) {
    this.#options = options;
    this.#parts = new WorkflowParts(options);
  }

  /** The workflow that answers for a name; undefined = none does. */
  find(name: string): Workflow | undefined {
    return this.#registry.find(name);
  }

  /**
   * Why a workflow that is kept does not answer, by name or `name/version`; undefined for any other name. Who asks wants to
   * use it: where its last try is some time ago, the next one begins.
   */
  notServed(id: string): AppError | undefined {
    const refusal = this.#registry.refusal(id);
    const [name, version] = id.split('/', 2);
    const due = refusal && this.#registry.unserved.due(name!, version);
    if (due !== undefined) void this.#bringBackNow(due);
    return refusal;
  }

  /** The workflow of a name, or of `name/version`. */
  byId(id: string): Workflow | undefined {
    return this.#registry.byId(id);
  }

  /** True when a workflow has the name, in any version. */
  has(name: string): boolean {
    return this.#registry.has(name);
  }

  /** True where a folder or file that the server was started with is a workflow. */
  isWorkflow(place: string): boolean {
    return isDefinition(place);
  }

  /** Ids of the workflows that answer with an adapter, or are being registered to. */
  usersOf(adapter: { readonly model: string; readonly name: string }): string[] {
    return this.#parts.usersOf(adapter);
  }

  /** Names of the workflows that the server was started with. */
  startupNames(): string[] {
    return this.#registry.startupNames();
  }

  /** Names of those that are served. */
  servedNames(): string[] {
    return this.#registry.list().flatMap(({ name, error }) => (error === undefined ? [name] : []));
  }

  list(): readonly WorkflowInfo[] {
    return this.#registry.list();
  }

  get(name: string, version?: string): readonly WorkflowInfo[] {
    return this.#registry.get(name, version);
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
      if (this.#registry.unserved.forget(id)) this.#options.changes?.notify();
      const workflow = this.#registry.exactly(id);
      if (workflow === undefined || workflow.info.startup || this.#registry.isReserved(id)) return;
      // It was registered again since.
      if (workflow.revision === undefined || workflow.revision > revision) return;
      await this.#remove([workflow], callOf('follow')).catch((error: unknown) =>
        this.#options.log.warn({ workflow: id, err: error }, 'unregistering failed'),
      );
    });
  }

  /** What a workflow could not be brought back with is still its own. */
  async #removeLeftovers(records: readonly KeptRecord[]): Promise<void> {
    const { adapters, leftoverMs = 0, log } = this.#options;
    const saved = records.map(({ body }) => savedWorkflow.safeParse(body).data);
    // What a record that cannot be read owns is not known.
    if (saved.includes(undefined)) return;
    const owned = saved.flatMap((one) => one?.owned ?? []);
    const leftovers = { owned: new Set([...owned, ...this.#parts.adapterNames()]), olderThanMs: leftoverMs };
    await adapters
      .removeLeftovers(leftovers, callOf('restore'))
      .catch((error: unknown) => log.warn({ err: error }, 'adapters that workflows left are not looked for'));
  }

  async #bringBack({ name: id, body, revision }: KeptRecord): Promise<void> {
    const { unserved } = this.#registry;
    if (this.#registry.exactly(id) !== undefined || this.#registry.isReserved(id)) return;
    const saved = savedWorkflow.safeParse(body).data;
    try {
      const { definition: text, owned } = saved ?? savedWorkflow.parse(body);
      const definition = await readDefinition({ kind: 'text', text }, []);
      await this.#register(definition, callOf('restore'), { owned, revision });
    } catch (error) {
      this.#options.log.warn(
        { workflow: id, err: error },
        `the kept workflow ${id} is not served: ${messageOf(error)}`,
      );
      // A record that cannot be read is written over by whoever registers the name.
      const isThere = this.#registry.exactly(id) !== undefined;
      if (saved === undefined) unserved.forget(id);
      else if (!isThere) unserved.note(id, saved.definition, revision, error);
      this.#options.changes?.notify();
    }
  }

  async unregister(name: string, version: string | undefined, call: CallContext): Promise<readonly WorkflowInfo[]> {
    const infos = this.#registry.get(name, version);
    const workflows = this.#registry.served(name, version);
    for (const info of infos) if (!info.startup) await this.#options.kept?.delete(workflowId(info), call);
    await this.#remove(workflows, call);
    await this.#forget(infos.filter(({ error }) => error !== undefined));
    this.#options.log.info({ workflow: name, version }, 'workflow unregistered');
    return infos;
  }

  /** Takes away workflows that were not served, with what their adapters are still registered as. */
  async #forget(infos: readonly WorkflowInfo[]): Promise<void> {
    const { kept } = this.#options;
    if (infos.length === 0 || kept === undefined) return;
    for (const info of infos) this.#registry.unserved.forget(workflowId(info));
    this.#options.changes?.notify();
    await this.#removeLeftovers((await kept.list()).records);
  }

  /** Takes workflows away and gives back what they had. One that is gone has given it back: it may be somebody else's now. */
  async #remove(workflows: readonly Workflow[], call: CallContext): Promise<void> {
    const removed = workflows.filter((workflow) => this.#registry.remove(workflow));
    this.#options.changes?.notify();
    await Promise.all(removed.map(({ info, functions }) => this.#parts.free(info, { ...info, functions }, call)));
  }

  async #register(
    definition: WorkflowDefinition,
    call: CallContext,
    registration: Registration,
  ): Promise<WorkflowInfo> {
    const { keep = false, startup = false } = registration;
    const { name, version } = definition;
    this.#checkFree(definition, registration.revision);
    this.#registry.reserve(definition, registration.revision);
    try {
      for (const warning of definition.warnings) this.#options.log.warn({ workflow: name }, warning);
      const parts = await this.#parts.acquire(definition, registration, call);
      const workflow = workflowOf(definition, parts, startup);
      const revision = keep ? await this.#keep(workflow, parts, call) : registration.revision;
      this.#registry.add({ ...workflow, revision });
      this.#options.changes?.notify();
      this.#options.log.info({ workflow: name, version }, 'workflow registered');
      return workflow.info;
    } catch (error) {
      if (keep) void this.#bringBackNow(workflowId(definition));
      throw error;
    } finally {
      this.#registry.unreserve(definition);
    }
  }

  /** Keeps the workflow where it is to be kept; where that fails, its parts are given back. */
  async #keep(workflow: Workflow, parts: Parts, call: CallContext): Promise<number | undefined> {
    const { info } = workflow;
    const saved: SavedWorkflow = { definition: info.definition, owned: this.#parts.ownedOf(parts) };
    const readable = (body: unknown) => savedWorkflow.safeParse(body).success;
    try {
      return await this.#options.kept?.create(workflowId(info), saved, call, readable);
    } catch (error) {
      await this.#parts.free(info, parts, call);
      throw error;
    }
  }

  /**
   * Registers what is kept under an id: it failed before, or the id was reserved here while another process registered it.
   * Never throws.
   */
  async #bringBackNow(id: string): Promise<void> {
    const { kept, log } = this.#options;
    try {
      const record = await kept?.get(id);
      if (record === undefined) return;
      await this.#bringBack(record);
      if ((await kept?.get(id)) !== undefined) return;
      // It was unregistered meanwhile.
      this.#registry.unserved.forget(id);
      const workflow = this.#registry.exactly(id);
      if (workflow?.revision === record.revision) await this.#remove([workflow], callOf('restore'));
    } catch (error) {
      log.warn({ workflow: id, err: error }, 'what is kept of the workflow is not read');
    }
  }

  /** Throws WORKFLOW_EXISTS, MODEL_EXISTS. */
  #checkFree(definition: WorkflowDefinition, revision?: number): void {
    this.#registry.checkFree(definition, revision);
    if (this.#options.taken(definition.name)) {
      const { name } = definition;
      throw new AppError('MODEL_EXISTS', `a model ${JSON.stringify(name)} is registered already`);
    }
  }
}

function callOf(requestId: string): CallContext {
  return { requestId, signal: new AbortController().signal };
}
