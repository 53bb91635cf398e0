/** Registers models, under names, on engines of the pool; models of a workflow go with the last workflow that uses them. */
import { nearNames } from '../adapters/adapter-names.js';
import { AppError } from '../errors.js';
import { redactSource } from '../sources/source.js';
import type { AdapterLog } from './adapter-service.js';
import type { KeptRecords } from './kept-records.js';
import type {
  AdapterHealth,
  ModelManagement,
  ModelOverrides,
  ModelStatus,
  RegisterModelRequest,
} from './management.js';
import { type ModelHandlers, nameOf, type OpenedModel, savedModel } from './model-description.js';
import { type ModelPool, poolKey } from './model-pool.js';
import type { LoadedModel } from './ports.js';
import { type RegisteredModel, statusOf } from './registered-model.js';
import type { ServedModel } from './served-models.js';
import type { CallContext } from './types.js';

/** What the manager is made of. */
export interface ModelManagerOptions {
  readonly pool: ModelPool;
  /** The models that answer, by name; the manager keeps it. */
  readonly models: Map<string, LoadedModel>;
  readonly adapters: {
    addModel(name: string, model: ServedModel): void;
    removeModel(name: string): void;
    /** Brings the adapters that are stored for the model, and those of folders. */
    open(model: string, dirs: readonly string[]): Promise<unknown>;
    /** How they are; absent = it is not known. */
    health?(model: string): AdapterHealth | undefined;
    /** Deletes the adapters of a model, also from the store. */
    clear(model: string, call: CallContext): Promise<void>;
  };
  /**
   * Finds the model at a url, and fetches it; with the snapshot of an earlier time, the same content.
   * @throws MODEL_SOURCE_INVALID, MODEL_SOURCE_FORBIDDEN, MODEL_INVALID, SOURCE_UNAVAILABLE and others of sources
   */
  readonly open: (
    url: string,
    name: string,
    overrides: ModelOverrides,
    how: { readonly signal: AbortSignal; readonly snapshot?: string | undefined },
  ) => Promise<OpenedModel>;
  /** What the adapter service needs to know of a loaded model. */
  readonly served: (model: LoadedModel, pool: string, opened: OpenedModel) => ServedModel;
  /** Starts and ends custom handlers; absent = models that have one cannot be served. */
  readonly handlers?: ModelHandlers | undefined;
  /** Something else that has the name, for example a workflow; absent = nothing. */
  readonly taken?: ((name: string) => boolean) | undefined;
  /** Where models that are registered while the server runs are kept; absent = nowhere. */
  readonly kept?: KeptRecords | undefined;
  readonly log: AdapterLog;
}

/** Who registers a model, and what is known of it. */
interface Registration {
  readonly startup?: boolean;
  readonly opened?: OpenedModel | undefined;
  /** The call that the registration is kept for; absent = it is not kept. */
  readonly keep?: CallContext | undefined;
  /** Id of the workflow that it is for; absent = it is registered by itself. */
  readonly workflow?: string;
  /** What was fetched of it when it was registered. */
  readonly snapshot?: string | undefined;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,255}$/;

/** The registered models. */
export class ModelManager implements ModelManagement {
  readonly #options: ModelManagerOptions;
  readonly #registered = new Map<string, RegisteredModel>();

  constructor(options: ModelManagerOptions) {
    this.#options = options;
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

  get(name: string): ModelStatus {
    return this.#status(this.#find(name));
  }

  /** The refusal of a request for a model that is registered but does not answer; undefined for any other name. */
  notReady(name: string): AppError | undefined {
    const model = this.#registered.get(name);
    if (model === undefined || model.state === 'ready') return undefined;
    const what = model.state === 'failed' ? `failed to load: ${model.error}` : 'is still loading';
    return new AppError('MODEL_NOT_READY', `model ${JSON.stringify(name)} ${what}`, {
      metadata: { model: name, state: model.state },
      ...(model.state === 'loading' && { retryAfterMs: 1000 }),
    });
  }

  async register(request: RegisterModelRequest, call: CallContext): Promise<ModelStatus> {
    return this.#register(request, call.signal, { keep: call });
  }

  /**
   * Registers a model that the server was started with.
   * @param opened where it was opened already
   * @param options `keepFailed`: one that fails stays in the list, with its error
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
    await this.#find(name).ready;
    return this.get(name);
  }

  /**
   * Registers again what was kept, and follows changes by other processes. A model that cannot be loaded any more is
   * listed as failed. @returns stops following
   */
  async restore(): Promise<() => Promise<void>> {
    const { kept, log } = this.#options;
    if (kept === undefined) return async () => {};
    const { records, revision } = await kept.list();
    for (const { name, body } of records) await this.#bringBack(name, body);
    return kept.follow(revision, async ({ name, body }) => {
      const model = this.#registered.get(name);
      if (body !== undefined) await this.#bringBack(name, body);
      else if (model?.direct && !model.startup && model.workflows.size === 0) {
        this.#remove(model).catch((error: unknown) => log.warn({ model: name, err: error }, 'unregistering failed'));
      }
    });
  }

  async #bringBack(name: string, body: unknown): Promise<void> {
    if (this.#registered.has(name)) return;
    const saved = savedModel.safeParse(body);
    if (!saved.success) {
      this.#options.log.warn({ model: name }, 'the record of a model is not readable: it is left alone');
      return;
    }
    const { url, overrides, snapshot } = saved.data;
    try {
      await this.#register({ url, name, wait: false, ...overrides }, new AbortController().signal, { snapshot });
      await this.#registered.get(name)?.ready;
    } catch {
      // Told in the log where it failed, and listed with its error.
    }
  }

  async unregister(name: string, call: CallContext, { wait = true } = {}): Promise<ModelStatus> {
    const model = this.#find(name);
    if (model.workflows.size > 0) {
      const users = [...model.workflows].sort().join(', ');
      throw new AppError('MODEL_IN_USE', `model ${JSON.stringify(name)} is used by workflows: ${users}`, {
        metadata: { model: name, workflows: users },
      });
    }
    if (!model.startup) {
      await this.#options.kept?.delete(name, call);
      // What is named when the server starts comes back with its adapters; this does not.
      if (model.state === 'ready' && model.pooled && model.opened?.options.loraEnabled)
        await this.#options.adapters.clear(name, call);
    }
    const status: ModelStatus = { ...this.#status(model), state: 'unloading' };
    const gone = this.#remove(model);
    if (wait) await gone;
    return status;
  }

  /**
   * Takes a model for a workflow: a registered one by its name, else the one at a url, under the local name or, where
   * another model has that, under `workflow:local`.
   * @returns the name it is served under
   */
  async retain(
    user: { readonly workflow: string; readonly id: string },
    local: string,
    url: string,
    overrides: ModelOverrides,
    signal: AbortSignal,
  ): Promise<string> {
    const byName = this.#registered.get(url);
    if (byName?.direct) {
      byName.workflows.add(user.id);
      try {
        await byName.ready;
      } catch (error) {
        this.release(user.id, byName.name);
        throw error;
      }
      return byName.name;
    }
    const opened = await this.#options.open(url, local, overrides, { signal });
    try {
      return await this.#share(user, local, url, overrides, opened, signal);
    } finally {
      // What is registered holds its own files.
      if (!this.#holds(opened)) opened.release?.();
    }
  }

  #holds(opened: OpenedModel): boolean {
    return [...this.#registered.values()].some((model) => model.opened?.release === opened.release);
  }

  async #share(
    user: { readonly workflow: string; readonly id: string },
    local: string,
    url: string,
    overrides: ModelOverrides,
    opened: OpenedModel,
    signal: AbortSignal,
  ): Promise<string> {
    const key = poolKey(opened.options);
    for (const name of [local, `${user.workflow}:${local}`]) {
      const known = this.#registered.get(name);
      if (known === undefined) {
        const options = { ...opened.options, name };
        await this.#register({ url, name, ...overrides }, signal, {
          opened: { ...opened, options },
          workflow: user.id,
        });
        return name;
      }
      if ((await known.key.catch(() => undefined)) !== key || this.#registered.get(name) !== known) continue;
      known.workflows.add(user.id);
      try {
        await known.ready;
      } catch (error) {
        this.release(user.id, name);
        throw error;
      }
      return name;
    }
    throw new AppError('MODEL_EXISTS', `models ${local} and ${user.workflow}:${local} are others; name it differently`);
  }

  /** A workflow no longer uses the model; the model goes if nothing else does. Resolves when it has gone. */
  async release(id: string, name: string): Promise<void> {
    const model = this.#registered.get(name);
    if (model === undefined || !model.workflows.delete(id)) return;
    if (!model.direct && model.workflows.size === 0) await this.#remove(model);
  }

  async #register(
    request: RegisterModelRequest,
    signal: AbortSignal,
    { startup = false, opened, keep, workflow, snapshot }: Registration,
  ): Promise<ModelStatus> {
    const { url, name = nameOf(url), wait = true, ...overrides } = request;
    if (!NAME.test(name)) {
      const description = `${JSON.stringify(name)} is no usable name: letters, digits, ".", "_", "-"`;
      throw new AppError('INVALID_REQUEST', `model_name ${description}`, {
        violations: [{ field: 'model_name', description }],
      });
    }
    if (this.#registered.has(name) || (workflow === undefined && this.#options.taken?.(name))) {
      throw new AppError('MODEL_EXISTS', `a model or workflow ${JSON.stringify(name)} is registered already`, {
        metadata: { model: name },
      });
    }
    const stop = new AbortController();
    const opening = Promise.resolve(
      opened ?? this.#options.open(url, name, overrides, { signal: stop.signal, snapshot }),
    );
    const model: RegisteredModel = {
      name,
      url,
      overrides,
      startup,
      createdAt: Date.now(),
      stop,
      workflows: new Set(workflow === undefined ? [] : [workflow]),
      direct: workflow === undefined,
      state: 'loading',
      key: opening.then(({ options }) => poolKey(options)),
      ready: Promise.resolve(),
    };
    this.#registered.set(name, model);
    model.key.catch(() => {});
    model.ready = this.#load(model, opening);
    model.ready.catch((thrown: unknown) => {
      model.error = AppError.from(thrown).message;
      if (model.state === 'loading') model.state = 'failed';
    });
    const save = async () => {
      const fetched = model.opened?.snapshot;
      const body = { url, overrides, ...(fetched !== undefined && { snapshot: fetched }) };
      if (keep !== undefined) await this.#options.kept?.put(name, body, keep);
    };
    if (!wait) {
      await save();
      return this.#status(model);
    }
    // Another workflow may have come to wait for the same load.
    const leave = () => model.workflows.size < 2 && stop.abort(signal.reason);
    signal.addEventListener('abort', leave, { once: true });
    if (signal.aborted) leave();
    try {
      await model.ready;
      await save();
    } catch (error) {
      await this.#remove(model);
      throw error;
    } finally {
      signal.removeEventListener('abort', leave);
    }
    return this.#status(model);
  }

  async #load(model: RegisteredModel, opening: Promise<OpenedModel>): Promise<void> {
    const { name, stop } = model;
    const { pool, models, adapters, served, handlers, log } = this.#options;
    const url = redactSource(model.url);
    try {
      const opened = await opening;
      model.opened = opened;
      stop.signal.throwIfAborted();
      for (const warning of opened.warnings) log.warn({ model: name }, warning);
      const { handler } = opened;
      if (!handler?.alone) {
        const pooled = await pool.lease(opened.options, stop.signal);
        model.pooled = pooled;
        stop.signal.throwIfAborted();
        adapters.addModel(name, served(pooled.model, pooled.key, opened));
        if (opened.options.loraEnabled) await adapters.open(name, opened.adapterFolders);
        stop.signal.throwIfAborted();
      }
      if (handler !== undefined) {
        if (handlers === undefined) throw new AppError('MODEL_INVALID', 'custom handlers are not served here');
        model.handler = await handlers.add(name, { ...opened, handler });
        stop.signal.throwIfAborted();
      }
      if (model.pooled !== undefined) models.set(name, model.pooled.model);
      model.state = 'ready';
      log.info({ model: name, url, engines: pool.size }, 'model registered');
    } catch (error) {
      if (this.#registered.get(name) === model && model.pooled !== undefined) adapters.removeModel(name);
      if (model.handler !== undefined) await handlers?.remove(name);
      await model.pooled?.release();
      model.opened?.release?.();
      delete model.pooled;
      delete model.handler;
      log.warn({ model: name, url, err: error }, `model ${name} failed: ${AppError.from(error).message}`);
      throw error;
    }
  }

  /** Takes the name away at once; resolves when the engine is given back. */
  async #remove(model: RegisteredModel): Promise<void> {
    const { name } = model;
    if (this.#registered.get(name) !== model) return;
    this.#registered.delete(name);
    if (model.state === 'loading') {
      model.state = 'unloading';
      this.#options.adapters.removeModel(name);
      model.stop.abort(new AppError('CANCELED', `model ${JSON.stringify(name)} was unregistered while it was loading`));
      await model.ready.catch(() => {});
      return;
    }
    model.state = 'unloading';
    this.#options.models.delete(name);
    this.#options.adapters.removeModel(name);
    if (model.handler !== undefined) await this.#options.handlers?.remove(name);
    await model.pooled?.release();
    model.opened?.release?.();
    this.#options.log.info({ model: name, engines: this.#options.pool.size }, 'model unregistered');
  }

  #find(name: string): RegisteredModel {
    const model = this.#registered.get(name);
    if (model !== undefined) return model;
    const near = nearNames(name, this.#registered.keys());
    const hint = near.length > 0 ? `; near names: ${near.join(', ')}` : '';
    throw new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(name)} is not registered${hint}`, {
      metadata: { model: name, ...(near.length > 0 && { near: near.join(',') }) },
    });
  }

  #status(model: RegisteredModel): ModelStatus {
    return statusOf(model, (name) => this.#options.adapters.health?.(name));
  }
}
