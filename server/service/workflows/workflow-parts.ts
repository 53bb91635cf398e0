/**
 * What workflows need: their models, adapters and functions, got one after the other and given back together. What a
 * registration got before it failed goes back the same way.
 */
import { AppError } from '../../errors.js';
import type { ModelManager } from '../model-manager.js';
import type { CallContext } from '../types.js';
import { AdapterClaims, type WorkflowAdapters } from './adapter-claims.js';
import type { WorkflowDefinition } from './definition.js';
import type { WorkflowFunction, WorkflowFunctions } from './functions.js';
import { type WorkflowAdapter, type WorkflowKey, type WorkflowModel, workflowId } from './types.js';

/** Where parts come from. */
export interface PartsOptions {
  readonly models: Pick<ModelManager, 'retain' | 'release'>;
  readonly adapters: WorkflowAdapters;
  /** True: the model was registered by itself, so its adapters may be somebody else's. */
  readonly direct: (model: string) => boolean;
  /** Runs functions that workflows bring; absent = workflows with functions are refused. */
  readonly functions?: WorkflowFunctions | undefined;
}

/** What is known of the adapters' past. */
export interface PartsOrigin {
  /** True: of a workflow that the server was started with. */
  readonly startup?: boolean;
  /** True: adapters are kept in the registry, under the workflow. */
  readonly keep?: boolean;
  /** Adapters that the workflow registered before, where it is registered again. */
  readonly owned?: readonly string[] | undefined;
}

/** What a workflow has got. */
export interface Parts {
  readonly models: readonly WorkflowModel[];
  readonly adapters: readonly WorkflowAdapter[];
  readonly functions: ReadonlyMap<string, WorkflowFunction>;
}

/** Gets parts and gives them back. */
export class WorkflowParts {
  readonly #options: PartsOptions;
  readonly #claims: AdapterClaims;

  constructor(options: PartsOptions) {
    this.#options = options;
    this.#claims = new AdapterClaims(options.adapters);
  }

  /** Names of all adapters that workflows have. */
  adapterNames(): string[] {
    return this.#claims.names();
  }

  /** Ids of the workflows that answer with an adapter, or are being registered to. */
  usersOf(adapter: { readonly model: string; readonly name: string }): string[] {
    return this.#claims.usersOf(adapter);
  }

  /** Those of the adapters that workflows have registered: they go with the last of them. */
  ownedOf({ adapters }: Parts): string[] {
    return adapters.filter((adapter) => this.#claims.isOwned(adapter)).map(({ name }) => name);
  }

  /** Gets all that the definition names, or nothing. Throws what loading models and adapters throws, WORKFLOW_INVALID. */
  async acquire(definition: WorkflowDefinition, origin: PartsOrigin, call: CallContext): Promise<Parts> {
    const models: WorkflowModel[] = [];
    const adapters: WorkflowAdapter[] = [];
    const functions = new Map<string, WorkflowFunction>();
    try {
      await this.#open(definition, functions);
      await this.#retain(definition, models, call);
      await this.#claim(definition, origin, models, adapters, call);
      call.signal.throwIfAborted();
    } catch (error) {
      await this.free(definition, { models, adapters, functions }, call);
      throw error;
    }
    return { models, adapters, functions };
  }

  /** Gives back; what nothing else uses goes. */
  async free(key: WorkflowKey, { models, adapters, functions }: Parts, call: CallContext): Promise<void> {
    await Promise.all([...functions.values()].map((one) => one.release()));
    for (const adapter of adapters) await this.#claims.release(adapter, workflowId(key), call);
    const served = new Set(models.map((model) => model.served));
    await Promise.all([...served].map((model) => this.#options.models.release(workflowId(key), model)));
  }

  async #open({ name: workflow, functions }: WorkflowDefinition, opened: Map<string, WorkflowFunction>): Promise<void> {
    for (const [name, { module, properties }] of functions) {
      if (this.#options.functions === undefined) {
        throw new AppError('WORKFLOW_INVALID', `workflow ${workflow} brings functions, which are not run here`);
      }
      opened.set(name, await this.#options.functions.open({ workflow, name, module, properties }));
    }
  }

  async #retain(definition: WorkflowDefinition, models: WorkflowModel[], call: CallContext): Promise<void> {
    const user = { workflow: definition.name, id: workflowId(definition) };
    for (const [local, { url, overrides }] of definition.models) {
      const served = await this.#options.models.retain(user, local, url, overrides, call.signal);
      models.push({ local, served, url });
    }
  }

  async #claim(
    definition: WorkflowDefinition,
    { startup, keep, owned }: PartsOrigin,
    models: readonly WorkflowModel[],
    adapters: WorkflowAdapter[],
    call: CallContext,
  ): Promise<void> {
    const served = new Map(models.map((model) => [model.local, model.served]));
    for (const [name, { model, source, ...rest }] of definition.adapters) {
      const adapter = { name, model: served.get(model)!, source };
      // The registry may have brought back what this workflow registered, or shared, before.
      const older = startup && !this.#options.direct(adapter.model) ? 'older' : undefined;
      const past = owned ? (owned.includes(name) ? 'own' : 'shared') : older;
      const request = { ...adapter, ...rest, ...(keep && { workflow: workflowId(definition) }) };
      await this.#claims.claim(request, workflowId(definition), call, past);
      adapters.push(adapter);
    }
  }
}
