/** What it takes to let a registered model answer: an engine of the pool, its adapters, its handler; and their end. */
import { AppError } from '../errors.js';
import { redactSource } from '../sources/source.js';
import type { AdapterLog } from './adapter-service.js';
import type { Changes } from './changes.js';
import type { AdapterHealth } from './management.js';
import type { ModelHandlers, OpenedModel } from './model-description.js';
import type { ModelPool } from './model-pool.js';
import type { LoadedModel } from './ports.js';
import type { RegisteredModel } from './registered-model.js';
import type { ServedModel } from './served-models.js';
import type { CallContext } from './types.js';

/** What answers are made of. */
export interface ModelServingOptions {
  readonly pool: ModelPool;
  /** The models that answer, by name; this keeps it. */
  readonly models: Map<string, LoadedModel>;
  readonly adapters: {
    addModel(name: string, model: ServedModel): void;
    removeModel(name: string): void;
    /** Brings the adapters that are stored for the model, and those of folders. */
    open(model: string, dirs: readonly string[]): Promise<unknown>;
    /** How they are; absent = it is not known. */
    health?(model: string): AdapterHealth | undefined;
    /** Deletes what is stored of the adapters of a model that was unregistered, unless that is done. */
    clear(model: string, call: CallContext): Promise<void>;
  };
  /** What the adapter service needs to know of a loaded model. */
  readonly served: (model: LoadedModel, pool: string, opened: OpenedModel) => ServedModel;
  /** Starts and ends custom handlers; absent = models that have one cannot be served. */
  readonly handlers?: ModelHandlers | undefined;
  /** Told whenever a model comes, goes, has another state, or its engine stops or stalls; absent = nobody is. */
  readonly changes?: Changes | undefined;
  readonly log: AdapterLog;
}

/** Brings registered models up, and takes them down. */
export class ModelServing {
  readonly #options: ModelServingOptions;
  /** Names that are free again once the handlers of models that go have answered. */
  readonly #leaving = new Map<string, Promise<void>>();

  constructor(options: ModelServingOptions) {
    this.#options = options;
  }

  /**
   * Loads a model; its state is 'ready' afterwards. Gives everything back where it fails.
   * @param opening its files, being found and fetched
   * @param isRegistered false once its name was taken away, and perhaps given to another
   * @param claim called when it is loaded, and before it answers for the name
   */
  async start(
    model: RegisteredModel,
    opening: Promise<OpenedModel>,
    isRegistered: () => boolean,
    claim: () => Promise<unknown>,
  ): Promise<void> {
    const { name, stop } = model;
    const { pool, models, adapters, served, handlers, changes, log } = this.#options;
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
        const { engine } = pooled.model;
        void engine.stopped?.then(() => changes?.notify());
        engine.onStall?.(() => changes?.notify());
        adapters.addModel(name, served(pooled.model, pooled.key, opened));
        if (opened.options.loraEnabled) await adapters.open(name, opened.adapterFolders);
        stop.signal.throwIfAborted();
      }
      if (handler !== undefined) {
        if (handlers === undefined) throw new AppError('MODEL_INVALID', 'custom handlers are not served here');
        model.handler = await handlers.add(name, { ...opened, handler });
        stop.signal.throwIfAborted();
      }
      await claim();
      stop.signal.throwIfAborted();
      if (model.pooled !== undefined) models.set(name, model.pooled.model);
      model.state = 'ready';
      log.info({ model: name, url, engines: pool.size }, 'model registered');
    } catch (error) {
      if (isRegistered() && model.pooled !== undefined) adapters.removeModel(name);
      if (model.handler !== undefined) await handlers?.remove(name);
      await model.pooled?.release();
      model.opened?.release?.();
      delete model.pooled;
      delete model.handler;
      const { reason, message } = AppError.from(error);
      // A registry that cannot be used ends the start, which tells it: no model is to blame.
      if (reason !== 'REGISTRY_UNAVAILABLE' || !model.startup) {
        log.warn({ model: name, url, err: error }, `model ${name} failed: ${message}`);
      }
      throw error;
    }
  }

  /** True where handlers of the model or its adapters answer, which need what it has until they are done. */
  answersByHandler(name: string): boolean {
    return this.#options.handlers?.runsFor(name) ?? false;
  }

  /** True where the name is still needed by a handler that finishes its answers. */
  isLeaving(name: string): boolean {
    return this.#leaving.has(name);
  }

  /** Resolves when the name can be served anew. */
  async left(name: string): Promise<void> {
    while (this.#leaving.has(name)) await this.#leaving.get(name);
  }

  /**
   * Ends a model whose name was taken away; resolves when the engine is given back, or its load has ended.
   * @param drained called when the model's handler has answered, before its adapters go
   */
  async end(model: RegisteredModel, drained = async () => {}): Promise<void> {
    const { name } = model;
    const { adapters, pool, log } = this.#options;
    if (model.state === 'loading') {
      model.state = 'unloading';
      adapters.removeModel(name);
      model.stop.abort(new AppError('CANCELED', `model ${JSON.stringify(name)} was unregistered while it was loading`));
      await model.ready.catch(() => {});
      return;
    }
    model.state = 'unloading';
    if (!this.answersByHandler(name)) this.#forget(name);
    else {
      // Until its calls are over the handler finds model and adapters by the name.
      const drain = this.#drain(name, drained).finally(() => this.#leaving.delete(name));
      this.#leaving.set(
        name,
        drain.catch(() => {}),
      );
      await drain;
    }
    await model.pooled?.release();
    model.opened?.release?.();
    // What never was served is told as failed.
    if (model.error === undefined) log.info({ model: name, engines: pool.size }, 'model unregistered');
  }

  async #drain(name: string, drained: () => Promise<void>): Promise<void> {
    const { handlers } = this.#options;
    try {
      await handlers?.drain(name);
      await drained();
    } finally {
      this.#forget(name);
      await handlers?.remove(name);
    }
  }

  #forget(name: string): void {
    this.#options.models.delete(name);
    this.#options.adapters.removeModel(name);
  }
}
