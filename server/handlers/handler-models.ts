/** The models that custom handlers answer for: with weights, which the handler may use, or without any. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { AppError } from '../errors.js';
import type { HandlerAnswer, HandlerRequest, HandlerService } from '../service/handler-types.js';
import type { CallContext, InferenceService, ModelInfo } from '../service/types.js';
import { HandlerAdapters } from './handler-adapters.js';
import { HandlerHost, type HandlerLimits, type HostLog } from './host.js';

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
  readonly log: HostLog;
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

  constructor(options: HandlerModelsOptions) {
    this.#options = options;
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
        .update(await readFile(entryPoint))
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

  /** Ends a model's handler; without effect where it has none. */
  async remove(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    this.#entries.delete(name);
    await entry?.host.close();
  }

  /** Ends all. */
  async close(): Promise<void> {
    await Promise.all([...this.#entries.keys()].map((name) => this.remove(name)));
  }

  /** True where no model has a handler. */
  get empty(): boolean {
    return this.#entries.size === 0;
  }

  serves(model: string): boolean {
    return this.#entries.has(model);
  }

  /** What is told of models that are a handler and nothing else. */
  infos(): ModelInfo[] {
    return [...this.#entries.values()].filter(({ model }) => !model.hasWeights).map(({ info }) => info);
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

  async handle({ model, properties, content }: HandlerRequest, call: CallContext): Promise<HandlerAnswer> {
    const entry = this.#entries.get(model);
    if (entry === undefined) throw new AppError('MODEL_NOT_FOUND', `model ${model} has no handler`);
    return entry.host.call('handle', { properties, content }, call);
  }
}
