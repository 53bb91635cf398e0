/** Models and workflows of a server: what it is started with, and what comes and goes later. */
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import { servedBase } from '../adapters/base-identity.js';
import type { ModelSource } from '../config/model-folder.js';
import { type FoundModel, openModelUrl } from '../config/open-model.js';
import type { ServeConfig } from '../config/serve-config.js';
import { SUPPORTED_FEATURES } from '../engine/features.js';
import type { GraphicsHardware } from '../engine/webgpu/choose-device.js';
import { AppError } from '../errors.js';
import { addHandler } from '../handlers/add-handler.js';
import type { HandlerModels } from '../handlers/handler-models.js';
import { WorkflowFunctionThreads } from '../handlers/workflow-functions.js';
import { isGgufModel } from '../model/gguf/gguf-model.js';
import type { RegistryStore } from '../registry/types.js';
import type { Adapters } from '../service/adapter-service.js';
import { Changes } from '../service/changes.js';
import { clearAdapters, clearLeftModels, KeptRecords } from '../service/kept-records.js';
import { loadModel } from '../service/load-model.js';
import type { ModelOverrides } from '../service/management.js';
import type { OpenedModel } from '../service/model-description.js';
import { ModelManager } from '../service/model-manager.js';
import { ModelPool } from '../service/model-pool.js';
import { ModelUses } from '../service/model-uses.js';
import type { LoadedModel } from '../service/ports.js';
import { type ServedHealth, servedHealth } from '../service/served-health.js';
import { Workflows } from '../service/workflows/workflow-service.js';
import type { SourceResolver } from '../sources/source-resolver.js';
import { onDevice } from './device.js';
import { openedModel } from './model-options.js';
import { namingModel, startStore } from './start-store.js';
import { isTrustedCode } from './trusted-code.js';

/** What is made of the configuration. */
export interface ManagedModels {
  /** The models that answer, by name; live. */
  readonly models: ReadonlyMap<string, LoadedModel>;
  readonly manager: ModelManager;
  readonly workflows: Workflows;
  readonly uses: ModelUses;
  /** How models and workflows are, for health checks. */
  readonly health: ServedHealth;
  /** What answers requests that name nothing: the only model or workflow of the start. */
  defaultName(): string | undefined;
  /** The default's model, for adapters. */
  defaultModel(): string | undefined;
  /** Resolves when the engine threads of a first model are on their way; maybe never. */
  readonly firstEngines: Promise<void>;
  /** Loads what the configuration names. Throws what the first broken one throws; models of the store may be broken. */
  start(): Promise<void>;
  /** Ends all engines. */
  close(): Promise<void>;
}

/** No registration of a workflow takes as long. */
const LEFTOVER_MS = 600_000;

/** What brings files here, and services that are made after this, so they are asked for when they are needed. */
export interface OtherServices {
  readonly sources: SourceResolver;
  adapters(): Adapters;
  handlers(): HandlerModels;
}

/**
 * @param hardware what `--device auto` decides by
 * @param roots folders that adapters may be registered from; those of each model are added
 * @param store where models and workflows that are registered later are kept
 */
export function manageModels(
  config: ServeConfig,
  log: Logger,
  { sources, adapters, handlers }: OtherServices,
  roots: string[],
  store: RegistryStore,
  hardware: GraphicsHardware,
): ManagedModels {
  const models = new Map<string, LoadedModel>();
  const uses = new ModelUses();
  const changes = new Changes();
  const following: (() => Promise<void>)[] = [];
  let onEngines = () => {};
  const firstEngines = new Promise<void>((resolve) => {
    onEngines = resolve;
  });
  const pool = new ModelPool(onDevice(loadModel, config.device, hardware, log, onEngines), uses, config.graceMs);
  const places = [...config.allowPaths, ...(config.modelStore === undefined ? [] : [config.modelStore])];
  const open = (source: ModelSource, overrides: ModelOverrides, found?: FoundModel): OpenedModel => {
    const { path, folder, adapterFolders } = source;
    // A thousand workflows may open one model: every check of a path goes through all roots.
    for (const root of [join(path, 'adapters'), join(folder, 'adapters'), ...adapterFolders, ...(found?.roots ?? [])]) {
      if (!roots.includes(root)) roots.push(root);
    }
    return openedModel(config, source, overrides, found);
  };
  const { dtype, environment } = config;
  const modelPlaces = {
    ...{ roots: places, store: config.modelStore, sources },
    settings: { dtype, environment, adapters: undefined, merge: undefined },
  };
  const manager = new ModelManager({
    pool,
    models,
    adapters: {
      addModel: (name, model) => adapters().addModel(name, model),
      removeModel: (name) => adapters().removeModel(name),
      open: (name, dirs) => adapters().open(name, dirs),
      health(name) {
        const handled = handlers().adapters(name);
        if (handled === undefined || handled.hasWeights) return adapters().health(name);
        // What its handler accepted, it can use.
        const { size } = handled.adapters;
        return size === 0 ? undefined : { registered: size, ready: size, loading: 0, failed: [] };
      },
      clear: (model, call) => clearAdapters(store, model, call),
    },
    open: async (url, name, overrides, how) => {
      const settings = { ...modelPlaces.settings, loraEnabled: overrides.loraEnabled };
      const found = await openModelUrl(url, name, { ...modelPlaces, settings }, how);
      if (found.source.handler !== undefined) requireTrusted(found, config);
      return open(found.source, overrides, found);
    },
    served: ({ base, engine, info }, key, { maxLoraRank, origin }) => ({
      base: servedBase(base, info.name, origin),
      engine,
      pool: key,
      maxLoraRank,
      modelDir: isGgufModel(info.path) ? dirname(info.path) : info.path,
      loraEnabled: info.loraEnabled,
      supportedFeatures: SUPPORTED_FEATURES,
      baseCheck: config.baseCheck,
    }),
    handlers: {
      add: (name, opened) => addHandler(handlers(), adapters(), name, opened, log),
      runsFor: (name) => handlers().runsFor(name),
      drain: (name) => handlers().drain(name, config.graceMs),
      remove: (name) => handlers().remove(name),
    },
    taken: (name) => workflows.has(name),
    kept: new KeptRecords(store, 'model'),
    changes,
    log,
  });
  // Others that share the registry may be registering a workflow just now, or a model may be leaving them.
  const leftoverMs = config.registry.kind === 'postgres' ? LEFTOVER_MS : 0;
  const functions = new WorkflowFunctionThreads({
    trusted: (module) => isTrustedCode(module, config),
    limits: { callMs: config.handlerMs, memoryBytes: config.handlerMemory },
    drainMs: config.graceMs,
    log,
  });
  const workflows: Workflows = new Workflows({
    functions,
    models: manager,
    adapters: {
      settled: (request) => adapters().settled(request),
      create: (request, call) => adapters().create(request, call),
      placeOf: (adapter) => adapters().placeOf(adapter),
      delete: (request, call) => adapters().delete(request, call),
      removeLeftovers: (leftovers, call) => adapters().removeLeftovers(leftovers, call),
    },
    leftoverMs,
    taken: (name) => manager.isDirect(name),
    direct: (name) => manager.isDirect(name),
    kept: new KeptRecords(store, 'workflow'),
    roots: places,
    changes,
    log,
  });
  const startup = () => [...workflows.startupNames(), ...manager.startupNames()];
  const registered = () => {
    const direct = manager.list().filter((model) => model.direct);
    return new Set([...workflows.servedNames(), ...direct.map(({ name }) => name)]);
  };
  const defaultName = () => {
    // What is registered beside what came at the start changes nothing for requests that name nothing.
    const started = startup();
    const [only, ...others] = started.length > 0 ? started : registered();
    return others.length === 0 ? only : undefined;
  };
  return {
    models,
    manager,
    workflows,
    uses,
    health: servedHealth(manager, workflows, changes),
    defaultName,
    firstEngines,
    defaultModel() {
      const name = defaultName();
      return name === undefined ? undefined : (workflows.find(name)?.calls.at(-1)?.model ?? name);
    },
    async start() {
      for (const remark of config.environment.remarks) log.warn(remark);
      for (const source of config.models) {
        places.push(source.path, source.folder);
        await manager.registerAtStart(source.folder, source.name, open(source, {})).catch(namingModel(source.name));
      }
      for (const { url, name, settings, cwd } of config.remoteModels) {
        const found = await openModelUrl(url, name, { ...modelPlaces, settings }, { trusted: true, cwd });
        await manager.registerAtStart(url, name, open(found.source, {}, found)).catch(namingModel(name));
      }
      await startStore(config, manager, workflows, log);
      for (const place of config.workflows) await workflows.registerAtStart(place);
      await clearLeftModels(store, leftoverMs, { requestId: 'restore', signal: new AbortController().signal });
      following.push(await manager.restore(), await workflows.restore());
    },
    async close() {
      await Promise.all(following.map((stop) => stop()));
      await functions.close();
      await pool.close();
    },
  };
}

/**
 * A handler is code: it comes from folders that the operator named for models. `--allow-path` names folders for
 * adapters, which others may write to. Throws MODEL_SOURCE_FORBIDDEN.
 */
function requireTrusted({ source, release }: FoundModel, config: ServeConfig): void {
  const { folder, handler } = source;
  if (isTrustedCode(folder, config) && isTrustedCode(handler!.entryPoint, config)) return;
  release();
  throw new AppError(
    'MODEL_SOURCE_FORBIDDEN',
    `${folder} brings a custom handler, which is run only from models of the start and from --model-store`,
  );
}
