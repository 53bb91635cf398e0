/** Registers models, under names, on engines of the pool; models of a workflow go with the last workflow that uses them. */
import { AppError } from '../errors.js';
import { type KeptModel, KeptModels } from './kept-models.js';
import type { KeptRecords } from './kept-records.js';
import type { AskedAs, ModelManagement, ModelStatus, RegisterModelRequest } from './management.js';
import { nameOf, type OpenedModel, type OpenModel } from './model-description.js';
import { poolKey } from './model-pool.js';
import { modelExists, modelInUse, modelNotFound, modelNotReady, requireModelName } from './model-refusals.js';
import { ModelServing, type ModelServingOptions } from './model-serving.js';
import { NameRecord } from './name-record.js';
import { newModel, type RegisteredModel, statusOf } from './registered-model.js';
import type { CallContext } from './types.js';
import { WorkflowModels } from './workflow-models.js';

/** What the manager is made of. */
export interface ModelManagerOptions extends ModelServingOptions {
  readonly open: OpenModel;
  /** Something else that has the name, for example a workflow; absent = nothing. */
  readonly taken?: ((name: string) => boolean) | undefined;
  /** Where models that are registered while the server runs are kept; absent = nowhere. */
  readonly kept?: KeptRecords | undefined;
}

/** Who registers a model, and what is known of it. */
interface Registration {
  readonly startup?: boolean;
  readonly opened?: OpenedModel | undefined;
  /** The call that the registration is kept for; absent = it is not kept. */
  readonly keep?: CallContext | undefined;
  /** Id of the workflow that it is for; absent = it is registered by itself. */
  readonly workflow?: string;
  /** The record that it is brought back from. */
  readonly record?: KeptModel | undefined;
}

/** In whose name a record is written again that is brought back. */
const RESTORING: CallContext = { requestId: 'restore', signal: new AbortController().signal };

/** The registered models. */
export class ModelManager implements ModelManagement {
  readonly #options: ModelManagerOptions;
  readonly #serving: ModelServing;
  readonly #kept: KeptModels;
  readonly #registered = new Map<string, RegisteredModel>();
  readonly #shared: WorkflowModels;

  constructor(options: ModelManagerOptions) {
    this.#options = options;
    this.#serving = new ModelServing(options);
    this.#kept = new KeptModels(options.kept, options.log);
    this.#shared = new WorkflowModels({
      registered: this.#registered,
      open: options.open,
      register: (request, signal, opened, workflow) => this.#register(request, signal, { opened, workflow }),
      remove: (model) => this.#remove(model),
      left: (name) => this.#serving.left(name),
    });
  }

  /** Names of the models that were named at the start. */
  startupNames(): string[] {
    return [...this.#registered.values()].filter(({ startup }) => startup).map(({ name }) => name);
  }

  /** True for a model that was registered by itself, not only because workflows use it. */
  isDirect(name: string): boolean {
    return this.#registered.get(name)?.direct ?? false;
  }

  list(): readonly ModelStatus[] {
    const all = [...this.#registered.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    return all.map((model) => this.#status(model));
  }

  get(name: string, asked?: AskedAs): ModelStatus {
    return this.#status(this.#find(name, asked));
  }

  /** The refusal of a request for a model that is registered but does not answer; undefined for any other name. */
  notReady(name: string): AppError | undefined {
    const model = this.#registered.get(name);
    if (model === undefined || model.state === 'ready') return undefined;
    return modelNotReady(model);
  }

  async register(request: RegisterModelRequest, call: CallContext): Promise<ModelStatus> {
    return this.#register(request, call.signal, { keep: call });
  }

  /**
   * Registers a model that the server was started with.
   * @param opened where it was opened already
   * @param options `keepFailed`: one that fails stays in the list, with its error, and is no failure of the call
   */
  async registerAtStart(
    url: string,
    name: string,
    opened?: OpenedModel,
    { keepFailed = false } = {},
  ): Promise<ModelStatus> {
    const { signal } = new AbortController();
    if (!keepFailed) return this.#register({ url, name }, signal, { startup: true, opened });
    await this.#register({ url, name, wait: false }, signal, { startup: true, opened });
    // Told in the log where it failed.
    await this.#find(name).ready.catch(() => {});
    return this.get(name);
  }

  /**
   * Registers again what was kept, and follows changes by other processes. A model that cannot be loaded any more is
   * listed as failed. @returns stops following
   */
  async restore(): Promise<() => Promise<void>> {
    return this.#kept.restore({
      bringBack: async (record) => {
        if (this.#registered.has(record.name)) return;
        const { url, name, overrides } = record;
        try {
          await this.#register({ url, name, wait: false, ...overrides }, new AbortController().signal, { record });
          await this.#registered.get(name)?.ready;
        } catch {
          // Told in the log where it failed, and listed with its error.
        }
      },
      gone: (name, revision) => {
        const model = this.#registered.get(name);
        if (!model?.direct || model.startup || model.workflows.size > 0) return;
        if (model.leaving || model.revision === undefined || model.revision > revision) return;
        this.#remove(model).catch((error: unknown) =>
          this.#options.log.warn({ model: name, err: error }, 'unregistering failed'),
        );
      },
    });
  }

  async unregister(
    name: string,
    call: CallContext,
    { wait = true, asked }: { readonly wait?: boolean; readonly asked?: AskedAs } = {},
  ): Promise<ModelStatus> {
    const model = this.#find(name, asked);
    if (model.workflows.size > 0) throw modelInUse(model);
    // Calls of a handler that still run may generate with the adapters.
    const drains = this.#serving.answersByHandler(name);
    if (!model.startup) {
      model.leaving = true;
      try {
        await this.#kept.delete(name, call, !drains);
      } catch (error) {
        model.leaving = false;
        throw error;
      }
    }
    const status: ModelStatus = { ...this.#status(model), state: 'unloading' };
    // What is named when the server starts comes back with its adapters; this does not. Where the deletion took the
    // adapters along, what was stored since it looked for them is still to go.
    const clear = async () => {
      if (model.startup) return;
      // Its record is gone already, so that nothing may keep it here.
      await this.#options.adapters.clear(name, call).catch((error: unknown) => {
        this.#options.log.warn({ model: name, err: error }, 'adapters of the model stay in the registry');
      });
    };
    if (!drains) await clear();
    const gone = this.#remove(model, drains ? clear : undefined);
    if (wait) await gone;
    else gone.catch((error: unknown) => this.#options.log.warn({ model: name, err: error }, 'unregistering failed'));
    return status;
  }

  /** {@link WorkflowModels.retain} */
  retain(...wanted: Parameters<WorkflowModels['retain']>): Promise<string> {
    return this.#shared.retain(...wanted);
  }

  /** {@link WorkflowModels.release} */
  release(id: string, name: string): Promise<void> {
    return this.#shared.release(id, name);
  }

  async #register(
    request: RegisterModelRequest,
    signal: AbortSignal,
    { startup = false, opened, keep, workflow, record }: Registration,
  ): Promise<ModelStatus> {
    const { url, name = nameOf(url), wait = true, ...overrides } = request;
    requireModelName(name);
    if (this.#serving.isLeaving(name)) await this.#serving.left(name);
    if (this.#registered.has(name) || (workflow === undefined && this.#options.taken?.(name))) {
      throw modelExists(name);
    }
    const stop = new AbortController();
    // What a killed process left of a former model of the name is not this one's.
    const cleared = this.#options.adapters.clear(name, keep ?? RESTORING);
    const opening = cleared.then(
      () => opened ?? this.#options.open(url, name, overrides, { signal: stop.signal, snapshot: record?.snapshot }),
    );
    const model = newModel(name, url, {
      ...{ overrides, startup, workflow, stop },
      revision: record?.revision,
      key: opening.then(({ options }) => poolKey(options)),
    });
    const named = new NameRecord(this.#kept, model, keep);
    const giveUp = async () => {
      await this.#remove(model);
      await named.release();
    };
    this.#registered.set(name, model);
    this.#options.changes?.notify();
    model.key.catch(() => {});
    const isRegistered = () => this.#registered.get(name) === model;
    model.ready = this.#serving
      .start(model, opening, isRegistered, () => named.claim())
      .catch((thrown: unknown) => {
        model.error = AppError.from(thrown).message;
        if (model.state === 'loading') model.state = 'failed';
        throw thrown;
      })
      .finally(() => this.#options.changes?.notify());
    model.ready.catch(() => {});
    if (!wait) {
      try {
        await named.claim();
        if (record?.snapshot === undefined) named.noteSnapshot(opening, keep ?? RESTORING).catch(() => {});
      } catch (error) {
        await giveUp();
        throw error;
      }
      return this.#status(model);
    }
    // Another workflow may have come to wait for the same load.
    const leave = () => model.workflows.size < 2 && stop.abort(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    try {
      await model.ready;
    } catch (error) {
      await giveUp();
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
    }
    return this.#status(model);
  }

  /**
   * Takes the name away at once; resolves when the engine is given back.
   * @param drained called when the handler of the model has answered, before its adapters go
   */
  async #remove(model: RegisteredModel, drained?: () => Promise<void>): Promise<void> {
    const { name } = model;
    if (this.#registered.get(name) !== model) return;
    this.#registered.delete(name);
    this.#options.changes?.notify();
    await this.#serving.end(model, drained);
  }

  #find(name: string, asked?: AskedAs): RegisteredModel {
    const model = this.#registered.get(name);
    if (model === undefined) throw modelNotFound(name, this.#registered.keys(), asked);
    return model;
  }

  #status(model: RegisteredModel): ModelStatus {
    return statusOf(model, (name) => this.#options.adapters.health?.(name));
  }
}
