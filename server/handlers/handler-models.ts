/** The models that custom handlers answer for: with weights, which the handler may use, or without any. */
import { createHash } from 'node:crypto';
import { AppError } from '../errors.js';
import { readRegular } from '../regular-file.js';
import type { CodeOf } from '../service/adapter-code.js';
import type { HandlerAnswer, HandlerRequest, HandlerService } from '../service/handler-types.js';
import type { CallContext, InferenceService, ModelInfo } from '../service/types.js';
import { AdapterHandlers } from './adapter-handlers.js';
import { HandlerAdapters } from './handler-adapters.js';
import type { HandlerLog } from './handler-thread.js';
import { HandlerHost, type HandlerLimits } from './host.js';

/** A model with a handler. */
export interface HandlerModel {
  readonly name: string;
  /** Folder of its serving.properties. */
  readonly dir: string;
  /** The handler's module, absolute. */
  readonly entryPoint: string;
  readonly properties: Readonly<Record<string, string>>;
  /** False: the handler is all there is. */
  readonly hasWeights: boolean;
  /** False: adapters are refused. */
  readonly loraEnabled: boolean;
  /** Time for a call, where the model sets its own, in milliseconds. */
  readonly callMs?: number | undefined;
}

/** What the service is made of. */
export interface HandlerModelsOptions {
  readonly limits: HandlerLimits;
  /** What handlers generate with. */
  readonly inference: InferenceService;
  readonly log: HandlerLog;
  /** Adapters that may bring handlers. */
  readonly adapters: {
    readonly folders: readonly string[];
    readonly maxThreads: number;
    /** The code that answers for a name. */
    codeOf(model: string, name: string): Promise<CodeOf | undefined>;
  };
}

interface Entry {
  readonly model: HandlerModel;
  readonly host: HandlerHost;
  readonly adapters: HandlerAdapters;
  readonly info: ModelInfo;
}

/** Starts and ends handlers, and calls them. */
export class HandlerModels implements HandlerService {
  readonly #options: HandlerModelsOptions;
  readonly #entries = new Map<string, Entry>();
  /** Models that go as soon as what they answer is finished: no request finds them any more. */
  readonly #leaving = new Set<string>();

  /** Handlers of adapters, of models that have none of their own. */
  readonly ofAdapters: AdapterHandlers;

  constructor(options: HandlerModelsOptions) {
    this.#options = options;
    const { limits, inference, log, adapters } = options;
    const { folders, maxThreads } = adapters;
    const ownHandler = (model: string) => this.#entries.has(model);
    this.ofAdapters = new AdapterHandlers({ limits, inference, log, folders, maxThreads, ownHandler });
  }

  /**
   * Starts a model's handler. Throws MODEL_INVALID; then nothing runs.
   * @returns what is told of a model that is this handler and nothing else
   */
  async add(model: HandlerModel): Promise<ModelInfo> {
    const { limits, inference, log } = this.#options;
    const { name, dir, entryPoint, properties, hasWeights } = model;
    let fingerprint: string;
    try {
      fingerprint = createHash('sha256')
        .update(await readRegular(entryPoint))
        .digest('hex');
    } catch (cause) {
      throw new AppError('MODEL_INVALID', `the handler ${entryPoint} cannot be read`, { cause });
    }
    const host: HandlerHost = new HandlerHost({
      model: name,
      modelDir: dir,
      entryPoint,
      properties,
      limits: { ...limits, callMs: model.callMs ?? limits.callMs },
      inference: hasWeights ? inference : undefined,
      registrations: () => adapters.registrations(),
      log,
    });
    const adapters: HandlerAdapters = new HandlerAdapters(name, host);
    try {
      await host.start();
    } catch (error) {
      await host.close();
      throw error;
    }
    const info: ModelInfo = {
      name,
      path: dir,
      modelType: 'handler',
      parameters: 0,
      dtype: 'fp32',
      contextLength: 0,
      vocabSize: 0,
      fingerprint,
      ready: true,
      loraEnabled: model.loraEnabled,
      handler: entryPoint,
    };
    this.#entries.set(name, { model, host, adapters, info });
    return info;
  }

  /**
   * Lets no new request to a model's handler, and waits for what it answers; calls that do not end within the time fail
   * with MODEL_NOT_FOUND. Afterwards its thread is gone, as are those of its adapters.
   */
  async drain(name: string, withinMs: number): Promise<void> {
    this.#leaving.add(name);
    const host = this.#entries.get(name)?.host;
    const what = `model ${JSON.stringify(name)} was unregistered, and its handler did not answer within ${withinMs} ms`;
    const why = new AppError('MODEL_NOT_FOUND', what, { metadata: { model: name } });
    await Promise.all([host?.idle(withinMs), this.ofAdapters.drain(name, withinMs, why)]);
    await host?.close(why);
  }

  /** True where a model has a handler, or adapters whose handlers answer: it needs {@link drain} before it ends. */
  runsFor(name: string): boolean {
    return this.#entries.has(name) || this.ofAdapters.isBusy(name);
  }

  /** Ends a model's handler; without effect where it has none. */
  async remove(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    this.#entries.delete(name);
    this.#leaving.delete(name);
    await entry?.host.close();
  }

  /** Throws MODEL_NOT_FOUND for a model that is being unregistered. */
  refuseLeaving(name: string): void {
    if (!this.#leaving.has(name)) return;
    throw new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(name)} is not served: it was unregistered`, {
      metadata: { model: name },
    });
  }

  /** True for a model that is being unregistered. */
  isLeaving(name: string): boolean {
    return this.#leaving.has(name);
  }

  /** Ends all. */
  async close(): Promise<void> {
    await Promise.all([...this.#entries.keys()].map((name) => this.remove(name)));
    await this.ofAdapters.close();
  }

  /** True where no model has a handler. */
  get empty(): boolean {
    return this.#entries.size === 0;
  }

  get takesAdapters(): boolean {
    return !this.ofAdapters.none;
  }

  async adapterOf(model: string, name: string): Promise<string | undefined> {
    return (await this.#codeOf(model, name))?.name;
  }

  serves(model: string): boolean {
    return this.#entries.has(model);
  }

  /** What is told of models that are a handler and nothing else. */
  infos(): ModelInfo[] {
    const there = [...this.#entries.values()].filter(({ model }) => !this.#leaving.has(model.name));
    return there.filter(({ model }) => !model.hasWeights).map(({ info }) => info);
  }

  /** The file of a model's handler. */
  handlerOf(model: string): string | undefined {
    return this.#entries.get(model)?.model.entryPoint;
  }

  /** Adapters of a model that its handler is told of; undefined where the model has no handler. */
  adapters(model: string): { readonly adapters: HandlerAdapters; readonly hasWeights: boolean } | undefined {
    const entry = this.#entries.get(model);
    return entry && { adapters: entry.adapters, hasWeights: entry.model.hasWeights };
  }

  async handle({ model, adapter, ...input }: HandlerRequest, call: CallContext): Promise<HandlerAnswer> {
    this.refuseLeaving(model);
    if (adapter !== undefined) {
      const code = await this.#codeOf(model, adapter);
      // It may have gone since the request was read.
      if (code === undefined)
        throw new AppError('ADAPTER_NOT_REGISTERED', `adapter ${JSON.stringify(adapter)} has no handler now`);
      return this.ofAdapters.handle(code, input, call);
    }
    const entry = this.#entries.get(model);
    if (entry === undefined) throw new AppError('MODEL_NOT_FOUND', `model ${model} has no handler`);
    return entry.host.call('handle', input, call);
  }

  async #codeOf(model: string, name: string): Promise<CodeOf | undefined> {
    if (!this.takesAdapters || this.#entries.has(model)) return undefined;
    return this.#options.adapters.codeOf(model, name);
  }
}
