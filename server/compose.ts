/** Puts a server together from its configuration: models, services, both surfaces, one listener. */
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import type { Logger } from 'pino';
import type { ServeConfig } from './config/parse.js';
import { SUPPORTED_FEATURES } from './engine/features.js';
import { AppError } from './errors.js';
import { withCors } from './listener/cors.js';
import { createListener } from './listener/listener.js';
import { isGgufModel } from './model/gguf/gguf-model.js';
import { measuredInference } from './observe/measured-inference.js';
import { Metrics } from './observe/metrics.js';
import { createRestApp } from './rest/app.js';
import { connectHandler } from './rpc/connect-handler.js';
import { HealthState } from './rpc/health.js';
import { HEALTH_SERVICES } from './rpc/routes.js';
import { createAdapterService } from './service/adapter-service.js';
import { refuseWhileDraining } from './service/draining.js';
import { createInferenceService } from './service/inference-service.js';
import { loadModel } from './service/load-model.js';
import { createModelService } from './service/model-service.js';
import type { LoadedModel } from './service/ports.js';
import type { AdapterInfo, ModelInfo, Services } from './service/types.js';

/** Inputs of one request. */
const MAX_INPUTS = 1024;

/** A server that is ready to listen. */
export interface Server {
  readonly models: readonly ModelInfo[];
  /** What is registered for a model, failures included. */
  adapters(model: string): Promise<readonly AdapterInfo[]>;
  /** Starts to answer; returns the base URL. */
  listen(): Promise<string>;
  /** Refuses new work, lets running rows finish within the grace time, then frees everything. */
  close(graceMs: number): Promise<void>;
}

/** Loads all models and their adapters. Throws AppError MODEL_INVALID. */
export async function composeServer(config: ServeConfig, log: Logger): Promise<Server> {
  const models = new Map<string, LoadedModel>();
  const closeModels = () => Promise.all([...models.values()].map(({ engine }) => engine.close()));
  try {
    for (const source of config.models) {
      for (const warning of source.warnings) log.warn({ model: source.name }, warning);
      const loaded = await loadModel({
        ...source,
        threads: config.threads || availableParallelism(),
        maxBatch: config.maxBatch,
        maxQueue: config.maxQueue,
        prefillChunk: config.prefillChunk,
        kvBytes: config.kvBytes,
      });
      models.set(source.name, loaded);
    }
  } catch (error) {
    await closeModels();
    throw error;
  }

  const adapters = createAdapterService({
    models: new Map(
      [...models].map(([name, { base, engine, info }]) => [
        name,
        {
          base,
          engine,
          modelDir: isGgufModel(info.path) ? dirname(info.path) : info.path,
          loraEnabled: info.loraEnabled,
          supportedFeatures: SUPPORTED_FEATURES,
          baseCheck: config.baseCheck,
        },
      ]),
    ),
    allowedRoots: [
      ...config.allowPaths,
      ...config.models.flatMap(({ path, folder, adapterFolders }) => [
        join(path, 'adapters'),
        join(folder, 'adapters'),
        ...adapterFolders,
      ]),
    ],
    byteBudget: config.adapterBytes,
    log,
  });
  for (const { name, loraEnabled, adapterFolders } of config.models) {
    if (!loraEnabled) continue;
    for (const folder of adapterFolders) await adapters.loadDirectory(name, folder);
  }

  let draining = false;
  const modelService = createModelService(models);
  const metrics = new Metrics({ models: () => [...models.values()], adapters });
  const inference = createInferenceService({
    models,
    modelService,
    leases: adapters,
    limits: { maxInputs: MAX_INPUTS },
  });
  const services: Services = refuseWhileDraining(
    { inference: measuredInference(inference, modelService, metrics), adapters, models: modelService },
    () => draining,
  );

  const rest = await createRestApp(services, {
    maxBodyBytes: config.maxBodyBytes,
    logger: log,
    draining: () => draining,
    metrics,
    compat: config.compat,
    later: { maxBytes: config.laterBytes, keepMs: config.laterKeepMs },
  });
  const health = new HealthState(HEALTH_SERVICES);
  const cut = new AbortController();
  const listener = createListener({
    handler: withCors(
      config.corsOrigins,
      connectHandler({
        services,
        health,
        readMaxBytes: config.maxBodyBytes,
        shutdownSignal: cut.signal,
        fallback: (request, response) => rest.routing(request as never, response as never),
        onError: (error) => log.error({ err: error }, 'a connection failed'),
        log: (record) => {
          metrics.request(record.method, 'RPC', record.code, record.ms / 1000);
          log[record.error === undefined ? 'info' : 'error'](
            { ...record, err: record.error, error: undefined },
            'call ended',
          );
        },
      }),
    ),
  });

  return {
    models: modelService.list(),
    adapters: async (model) => (await adapters.list({ model, pageSize: 1000 })).adapters,
    async listen() {
      await listener.listen(config.host, config.port);
      health.ready();
      const { address, port, family } = listener.address!;
      return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`;
    },
    async close(graceMs) {
      draining = true;
      health.drain();
      await listener.close(graceMs, () => cut.abort(new AppError('SHUTTING_DOWN', 'the server is shutting down')));
      await rest.close();
      await adapters.close();
      await closeModels();
    },
  };
}
