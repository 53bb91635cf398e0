/** Puts a server together from its configuration: models, services, both surfaces, one listener. */

import { setMaxListeners } from 'node:events';
import type { Logger } from 'pino';
import { MAX_WAITING } from './adapters/memory-room.js';
import { memoryAtHand } from './cgroup.js';
import { memoryRemark } from './compose/memory-check.js';
import { manageModels } from './compose/models.js';
import type { Surfaces } from './compose/surfaces.js';
import type { ServeConfig } from './config/serve-config.js';
import type { GraphicsHardware } from './engine/webgpu/choose-device.js';
import { AppError } from './errors.js';
import { handledServices, refuseHandled } from './handlers/handled-services.js';
import { HandlerModels } from './handlers/handler-models.js';
import { measuredInference } from './observe/measured-inference.js';
import { Metrics } from './observe/metrics.js';
import { openRegistry } from './registry/open-registry.js';
import { type Adapters, createAdapterService } from './service/adapter-service.js';
import { allAdapters } from './service/all-adapters.js';
import { refuseWhileDraining } from './service/draining.js';
import { createInferenceService } from './service/inference-service.js';
import { createModelService } from './service/model-service.js';
import type { AdapterInfo, ModelInfo, Services } from './service/types.js';
import { workflowInference } from './service/workflows/workflow-inference.js';
import { createSourceResolver } from './sources/source-resolver.js';

/** Inputs of one request. */
const MAX_INPUTS = 1024;

/** A server that is ready to listen. */
export interface Server {
  readonly models: readonly ModelInfo[];
  /** Where the registry is kept; undefined = it ends with the process. */
  readonly registry: string | undefined;
  /** Where a model runs, and why there; undefined where no engine runs it. */
  device(model: string): { readonly name: string; readonly why: string } | undefined;
  /** What is registered for a model, failures included. */
  adapters(model: string): Promise<readonly AdapterInfo[]>;
  /** Starts to answer; returns the base URL. */
  listen(): Promise<string>;
  /** Tells everybody who waits that the server is shutting down, before what they wait for is gone. */
  cut(): void;
  /** Refuses new work, lets running rows finish within the grace time, then frees everything. */
  close(graceMs: number): Promise<void>;
}

/**
 * Loads all models and their adapters. Throws AppError MODEL_INVALID.
 * @param hardware what `--device auto` decides by
 */
export async function composeServer(
  config: ServeConfig,
  log: Logger,
  hardware: GraphicsHardware = { devices: [], software: undefined },
): Promise<Server> {
  const store = openRegistry(config.registry, {
    lost: (error) => log.warn({ err: error }, 'the registry is not reachable'),
    back: () => log.info('the registry is reachable again'),
    remark: (what) => log.warn(what),
  });
  const sources = createSourceResolver(config.sources);
  const roots = [...config.allowPaths];
  const others = { sources, adapters: () => adapters, handlers: () => handlers };
  const managed = manageModels(config, log, others, roots, store, hardware);
  const { models, manager, workflows, uses } = managed;
  const adapters: Adapters = createAdapterService({
    models: new Map(),
    defaultModel: managed.defaultModel,
    allowedRoots: roots,
    byteBudget: config.adapterBytes,
    // Whoever lets more inputs wait lets their adapters wait, too.
    maxWaiting: Math.max(MAX_WAITING, config.maxQueue),
    log,
    sources,
    store,
    // Made below, over the services that are made of this one.
    code: {
      refusal: (model, module) => handlers.ofAdapters.refusal(model, module),
      start: (of) => handlers.ofAdapters.start(of),
      forget: (model, name) => handlers.ofAdapters.forget(model, name),
    },
    usersOf: (adapter) => workflows.usersOf(adapter),
  });

  let draining = false;
  const modelService = createModelService(models, {
    defaultName: managed.defaultName,
    notReady: (name) => manager.notReady(name) ?? workflows.notServed(name),
    workflowCall: (name) => {
      const { calls = [], plan } = workflows.byId(name) ?? {};
      const last = calls.at(-1);
      return last && { model: last.model, adapter: plan!.order.length === 1 ? last.adapter : undefined };
    },
    workflowVersion: (name, version) => {
      if (workflows.has(name)) workflows.get(name, version);
    },
    workflowNames: () => workflows.servedNames(),
  });
  const metrics = new Metrics({ models: () => [...models.values()], adapters });
  const inference = createInferenceService({
    models,
    modelService,
    leases: adapters,
    limits: { maxInputs: MAX_INPUTS },
    uses,
    ended: (model, end) => metrics.rows.inc({ model, finish_reason: end }),
  });
  const measured = measuredInference(inference, modelService, metrics);
  const handlers: HandlerModels = new HandlerModels({
    limits: { callMs: config.handlerMs, memoryBytes: config.handlerMemory },
    inference: measured,
    log,
    adapters: {
      folders: config.adapterHandlers,
      maxThreads: config.adapterHandlerThreads,
      codeOf: (model, name) => adapters.codeOf(model, name),
    },
  });
  const handled = handledServices(
    {
      // Below the workflows, so that none of their calls goes round a handler either.
      inference: workflowInference({
        inference: refuseHandled(measured, inference, handlers, managed.defaultName),
        leases: adapters,
        find: (name) => workflows.byId(name),
        defaultName: managed.defaultName,
      }),
      adapters,
      models: modelService,
      management: manager,
      workflows,
    },
    handlers,
  );
  const services: Services = refuseWhileDraining(handled, () => draining);
  const cut = new AbortController();
  // Every call in flight listens to it, so many listeners are no leak.
  setMaxListeners(0, cut.signal);
  const tellAll = () => cut.abort(new AppError('SHUTTING_DOWN', 'the server is shutting down'));
  let surfaces: Surfaces;
  try {
    // What takes long goes side by side: the engines, in threads of their own, the registry, and the libraries of HTTP,
    // which keep this thread busy: the engines take longest, so their threads are started first.
    const started = managed.start();
    [, , surfaces] = await Promise.all([
      started,
      store.opened(),
      Promise.race([managed.firstEngines, started])
        .then(() => import('./compose/surfaces.js'))
        .then(({ createSurfaces }) =>
          createSurfaces(config, {
            ...{ services, metrics, log, health: managed.health },
            draining: () => draining,
            cut: cut.signal,
          }),
        ),
    ]);
  } catch (error) {
    await handlers.close();
    await sources.close();
    await adapters.close();
    await managed.close();
    await store.close();
    throw error;
  }
  const { listener, health } = surfaces;
  const remark = memoryRemark(config, models.size, memoryAtHand());
  if (remark !== undefined) log.warn(remark);

  return {
    models: handled.models.list(),
    registry: store.durable ? store.place : undefined,
    device: (model) => models.get(model)?.engine.device,
    adapters: (model) => allAdapters(handled.adapters, model),
    async listen() {
      await listener.listen(config.host, config.port);
      health.ready();
      const { address, port, family } = listener.address!;
      return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
    },
    cut: tellAll,
    async close(graceMs) {
      draining = true;
      health.drain();
      adapters.drain();
      await listener.close(graceMs, tellAll);
      await surfaces.close();
      await sources.close();
      await handlers.close();
      await adapters.close();
      await managed.close();
      await store.close();
    },
  };
}
