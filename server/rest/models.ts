/** What is served: `/models`, `/models/{model}`, `/ping`, in DJL Serving's form. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { ModelStatus, RegisterModelRequest } from '../service/management.js';
import type { Services } from '../service/types.js';
import { callContext } from './call-context.js';
import { describeEndpoint, modelLine, noVersion, workflowsOf } from './endpoints.js';
import { invalidField } from './fields.js';
import { IGNORED_HEADER } from './invocations.js';
import { parametersOf } from './parameters-of.js';
import { addPingRoute } from './ping.js';
import { booleanText, pageLimit, singleValues } from './query.js';
import { addRoute } from './route.js';

/** Parameters of a registration that belong to the original's engines and worker pools. */
const IGNORED = [
  'engine',
  'device',
  'max_batch_delay',
  'max_idle_time',
  'min_worker',
  'max_worker',
  'model_version',
  'application',
];

/**
 * Adds the routes.
 * @param draining true once the server ends: `/ping` then tells so, before anything is refused
 */
export function addModelRoutes(app: FastifyInstance, services: Services, draining: () => boolean): void {
  addRoute(app, '/models', 'management', {
    GET: async (request) => {
      const { items, nextPageToken } = pageOf(request, services.management.list());
      return { ...nextPageToken, models: items.map(modelLine) };
    },
    POST: (request, reply) => register(services, request, reply),
  });
  for (const prefix of ['/models', '/workflows']) {
    const handlers = {
      GET: async (request: FastifyRequest) => describeEndpoint(services, ...nameOf(request)),
      PUT: async (request: FastifyRequest) => scale(services, request),
      DELETE: (request: FastifyRequest, reply: FastifyReply) => unregister(services, request, reply),
    };
    addRoute(app, `${prefix}/:model`, 'inference', handlers);
    addRoute(app, `${prefix}/:model/:version`, 'inference', handlers);
  }
  addPingRoute(app, services, draining);
  addRoute(app, '/', 'management', { GET: async () => services.models.list().map((model) => model.name) });
}

/** `limit` and `next_page_token` of a list that is sorted by name; the token is where the next page begins. */
export function pageOf<T>(
  request: FastifyRequest,
  all: readonly T[],
): { items: readonly T[]; nextPageToken: { nextPageToken?: string } } {
  const query = singleValues(request);
  const token = query.next_page_token;
  if (token && !/^\d{1,9}$/.test(token)) throw invalidField('next_page_token', 'is no token of this list');
  const start = Number(token ?? 0);
  const end = start + pageLimit(query.limit);
  return { items: all.slice(start, end), nextPageToken: end < all.length ? { nextPageToken: String(end) } : {} };
}

async function register(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const { url, model_name: name, synchronous, ...rest } = parametersOf(request);
  if (!url) throw invalidField('url', 'is missing; give the folder of the model');
  const call = callContext(request, reply);
  const wait = booleanText(synchronous, 'synchronous') ?? true;
  const definition = await services.workflows.definitionAt(url);
  if (definition) {
    const { name } = await services.workflows.register({ kind: 'url', url }, call);
    return { status: `Workflow "${name}" registered.` };
  }
  const { batch_size: batchSize, job_queue_size: queueSize, dtype, enable_lora: enableLora, ...others } = rest;
  const unknown = Object.keys(others).filter((key) => !IGNORED.includes(key));
  if (unknown.length > 0) throw invalidField(unknown[0]!, 'is no parameter of a registration');
  const ignored = Object.keys(others);
  if (ignored.length > 0) reply.header(IGNORED_HEADER, ignored.join(', '));
  const wanted: RegisterModelRequest = {
    url,
    ...(name && { name }),
    wait,
    dtype: dtype || undefined,
    loraEnabled: booleanText(enableLora, 'enable_lora'),
    maxBatch: count(batchSize, 'batch_size'),
    maxQueue: count(queueSize, 'job_queue_size'),
  };
  const model = await services.management.register(wanted, call);
  if (!wait) reply.code(202);
  return { status: `Model "${model.name}" ${wait ? 'registered' : 'registration scheduled'}.` };
}

async function unregister(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const [name, version] = nameOf(request);
  const wait = booleanText(parametersOf(request).synchronous, 'synchronous') ?? true;
  if (workflowsOf(services, name, version) !== undefined) {
    await services.workflows.unregister(name, version, callContext(request, reply));
  } else {
    services.management.get(name);
    if (version !== undefined) throw noVersion(name, version);
    await services.management.unregister(name, callContext(request, reply), { wait });
    if (!wait) reply.code(202);
  }
  return { status: `Model or workflow "${name}" unregistered` };
}

/** One engine serves each model, so only that is a scale; the answer says what there is. */
async function scale(services: Services, request: FastifyRequest): Promise<object> {
  const [name, version] = nameOf(request);
  const { min_worker: min, max_worker: max } = parametersOf(request);
  const [min0, max0] = [workers(min, 'min_worker') ?? 1, workers(max, 'max_worker') ?? 1];
  if (min0 > max0) throw invalidField('min_worker', `must not be above max_worker, ${max0}`);
  const found = workflowsOf(services, name, version)?.flatMap(({ models }) => models.map(({ served }) => served));
  if (found === undefined && version !== undefined) throw noVersion(name, version);
  for (const model of (found ?? [name]).map((one) => services.management.get(one))) requireReady(model);
  if (max0 === 0) throw invalidField('max_worker', 'must be at least 1; unregister the model to free its memory');
  return { status: `Workflow "${name}" worker scaled. New worker configuration: min workers: 1, max workers: 1` };
}

function requireReady(model: ModelStatus): void {
  if (model.state === 'ready') return;
  throw new AppError('MODEL_NOT_READY', `model ${model.name} is ${model.state}`, { metadata: { model: model.name } });
}

function workers(text: string | undefined, field: string): number | undefined {
  if (text === undefined || text === '-1') return undefined;
  if (!/^\d{1,6}$/.test(text)) throw invalidField(field, `must be a whole number, not ${JSON.stringify(text)}`);
  return Number(text);
}

function count(text: string | undefined, field: string): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,6}$/.test(text)) {
    throw invalidField(field, `must be a whole number above 0, not ${JSON.stringify(text)}`);
  }
  return Number(text);
}

function nameOf(request: FastifyRequest): [name: string, version: string | undefined] {
  const { model, version } = request.params as { model: string; version?: string };
  return [model, version];
}
