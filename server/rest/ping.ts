/** `/ping`: how the server, its models and their adapters are. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { allAdapters } from '../service/all-adapters.js';
import type { AdapterHealth, ModelStatus } from '../service/management.js';
import { hasStopped } from '../service/served-health.js';
import type { Services } from '../service/types.js';
import { booleanText, singleValues } from './query.js';
import { addRoute } from './route.js';

const STATES = { loading: 'Pending', ready: 'Healthy', failed: 'Failed', unloading: 'Unloading' } as const;
/** Most adapters whose failure is told without `verbose`. */
const MAX_FAILURES = 20;

/**
 * Adds the route. 200, also where a model that was registered or an adapter failed: that is its own matter; 500 when an
 * engine has stopped; 503 while the server ends. `?verbose=true` lists every adapter.
 * @param draining true once the server ends: it is told here before anything is refused
 */
export function addPingRoute(app: FastifyInstance, services: Services, draining: () => boolean): void {
  const ping = async (request: FastifyRequest, reply: FastifyReply) => {
    const ending = draining();
    const models = services.management.list();
    const stopped = models.some(hasStopped);
    const verbose = booleanText(singleValues(request).verbose, 'verbose') ?? false;
    reply.code(ending ? 503 : stopped ? 500 : 200);
    const told = models.map(async (model) => {
      const each = verbose && model.adapters !== undefined ? { each: await eachAdapter(services, model.name) } : {};
      const status = ending ? 'ShuttingDown' : STATES[model.state];
      return [model.name, { status, ...errorOf(model), ...adaptersOf(model.adapters, each) }] as const;
    });
    return Object.fromEntries(await Promise.all(told));
  };
  // Health checks of every kind ask here, and the original answers any method.
  addRoute(app, '/ping', 'management', { GET: ping, POST: ping, PUT: ping, PATCH: ping, DELETE: ping });
}

function errorOf({ error }: ModelStatus): { error?: string } {
  return error === undefined ? {} : { error };
}

function adaptersOf(health: AdapterHealth | undefined, each: object): { adapters?: object } {
  if (health === undefined) return {};
  const { registered, ready, loading, failed } = health;
  const failures = failed.slice(0, MAX_FAILURES).map(({ name, error }) => [name, error] as const);
  return {
    adapters: {
      status: summaryOf(health),
      ...{ registered, ready, loading, failed: failed.length },
      ...(failures.length > 0 && { failures: Object.fromEntries(failures) }),
      ...each,
    },
  };
}

function summaryOf({ registered, loading, failed }: AdapterHealth): string {
  if (failed.length > 0) return failed.length === registered ? 'Failed' : 'Partial';
  return loading > 0 ? 'Pending' : 'Healthy';
}

/** Every adapter of a model: registered ones are healthy, since their first use loads them. */
async function eachAdapter(services: Services, model: string): Promise<object> {
  const each: Record<string, object> = {};
  for (const { name, state, error } of await allAdapters(services.adapters, model)) {
    const status = state === 'failed' ? 'Failed' : state === 'loading' ? 'Pending' : 'Healthy';
    each[name] = { status, state, ...(error !== undefined && { error }) };
  }
  return each;
}
