/** What callers reach: HTTP/JSON and RPC behind one listener. Its libraries load beside the engines, see `compose.ts`. */
import type { Logger } from 'pino';
import type { ServeConfig } from '../config/serve-config.js';
import { withCors } from '../listener/cors.js';
import { createListener, type Listener } from '../listener/listener.js';
import type { Metrics } from '../observe/metrics.js';
import { createRestApp } from '../rest/app.js';
import { connectHandler } from '../rpc/connect-handler.js';
import { HealthState } from '../rpc/health.js';
import { HEALTH_SERVICES } from '../rpc/routes.js';
import type { ServedHealth } from '../service/served-health.js';
import type { Services } from '../service/types.js';

/** The surfaces, not listening yet. */
export interface Surfaces {
  readonly listener: Listener;
  readonly health: HealthState;
  /** Ends what the HTTP/JSON surface holds, after the listener. */
  close(): Promise<void>;
}

/** What the surfaces are made over. */
export interface SurfaceParts {
  readonly services: Services;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** How models and workflows are. */
  readonly health: ServedHealth;
  draining(): boolean;
  /** Aborts when calls in flight are to be cut. */
  readonly cut: AbortSignal;
}

/** Makes them; nothing listens before `listen`. */
export async function createSurfaces(config: ServeConfig, parts: SurfaceParts): Promise<Surfaces> {
  const { services, metrics, log, draining, cut } = parts;
  const rest = await createRestApp(services, {
    maxBodyBytes: config.maxBodyBytes,
    logger: log,
    draining,
    cut,
    metrics,
    compat: config.compat,
    later: { maxBytes: config.laterBytes, keepMs: config.laterKeepMs },
  });
  const health = new HealthState(HEALTH_SERVICES, parts.health);
  const listener = createListener({
    maxBodyBytes: config.maxBodyBytes,
    onCut: (reason, address, count) => log.warn({ reason, address, count }, 'clients were cut'),
    handler: withCors(
      config.corsOrigins,
      connectHandler({
        services,
        health,
        readMaxBytes: config.maxBodyBytes,
        shutdownSignal: cut,
        fallback: (request, response) => rest.routing(request as never, response as never),
        onError: (error) => log.error({ err: error }, 'a connection failed'),
        log: (record) => {
          metrics.request(record.method, 'RPC', record.code, record.ms / 1000);
          log[record.error === undefined ? 'info' : 'error'](
            { ...record, ms: Math.round(record.ms), err: record.error, error: undefined },
            'call ended',
          );
        },
      }),
    ),
  });
  return { listener, health, close: () => rest.close() };
}
