/** What is served: `/models`, `/models/{model}`, `/ping`, in DJL Serving's form. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { MAX_BATCH, MAX_QUEUE } from '../batch-bounds.js';
import { AppError } from '../errors.js';
import type { AskedAs, ModelStatus, RegisterModelRequest } from '../service/management.js';
import { modelHasNoVersion } from '../service/model-refusals.js';
import type { Services } from '../service/types.js';
import { callContext } from './call-context.js';
import { describeEndpoint, modelLine, workflowsOf } from './endpoints.js';
import { invalidField } from './fields.js';
import { tellIgnored } from './ignored.js';
import { ManagementParameters } from './management-parameters.js';
import { pageOf } from './pages.js';
import { addPingRoute } from './ping.js';
import { addRoute } from './route.js';
import { registerWorkflow } from './workflows.js';

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

/** Parameters of a registration that count. */
const REGISTRATION = ['url', 'model_name', 'synchronous', 'dtype', 'enable_lora', 'batch_size', 'job_queue_size'];

/**
 * Adds the routes.
 * @param draining true once the server ends: `/ping` then tells so, before anything is refused
 */
export function addModelRoutes(app: FastifyInstance, services: Services, draining: () => boolean): void {
  addRoute(app, '/models', 'management', {
    GET: async (request) => {
      const { items, nextPageToken } = pageOf(request, services.management.list(), ({ name }) => [name, '']);
      return { ...nextPageToken, models: items.map(modelLine) };
    },
    POST: (request, reply) => register(services, request, reply),
  });
  for (const asked of ['model', 'workflow'] as const) {
    const handlers = {
      GET: async (request: FastifyRequest) => describeEndpoint(services, asked, ...nameOf(request)),
      PUT: (request: FastifyRequest) => scale(services, asked, request),
      DELETE: (request: FastifyRequest, reply: FastifyReply) => unregister(services, asked, request, reply),
    };
    addRoute(app, `/${asked}s/:model`, 'inference', handlers);
    addRoute(app, `/${asked}s/:model/:version`, 'inference', handlers);
  }
  addPingRoute(app, services, draining);
  addRoute(app, '/', 'management', { GET: async () => services.models.list().map((model) => model.name) });
}

async function register(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const parameters = new ManagementParameters(request);
  const url = parameters.text('url');
  if (!url) throw invalidField('url', 'is missing; give the folder of the model');
  const call = callContext(request, reply);
  const wait = parameters.boolean('synchronous') ?? true;
  const definition = await services.workflows.definitionAt(url);
  if (definition) {
    parameters.end('url and synchronous: the url leads to a workflow');
    return registerWorkflow(services, { kind: 'url', url }, wait, call, reply);
  }
  const name = parameters.text('model_name');
  const wanted: RegisterModelRequest = {
    url,
    ...(name && { name }),
    wait,
    dtype: parameters.text('dtype') || undefined,
    loraEnabled: parameters.boolean('enable_lora'),
    maxBatch: count(parameters, 'batch_size', MAX_BATCH),
    maxQueue: count(parameters, 'job_queue_size', MAX_QUEUE),
  };
  const ignored = parameters.left;
  const unknown = ignored.find((key) => !IGNORED.includes(key));
  if (unknown !== undefined)
    throw invalidField(unknown, `is no parameter of a registration; there are ${REGISTRATION.join(', ')}`);
  tellIgnored(reply, ignored);
  const model = await services.management.register(wanted, call);
  if (!wait) reply.code(202);
  return { status: `Model "${model.name}" ${wait ? 'registered' : 'registration scheduled'}.` };
}

async function unregister(
  services: Services,
  asked: AskedAs,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<object> {
  const [name, version] = nameOf(request);
  const wait = new ManagementParameters(request).boolean('synchronous') ?? true;
  if (workflowsOf(services, name, version) !== undefined) {
    await services.workflows.unregister(name, version, callContext(request, reply));
  } else {
    services.management.get(name, asked);
    if (version !== undefined) throw modelHasNoVersion(name, version, asked);
    await services.management.unregister(name, callContext(request, reply), { wait, asked });
    if (!wait) reply.code(202);
  }
  return { status: `Model or workflow "${name}" unregistered` };
}

/** One engine serves each model, so only that is a scale; the answer says what there is. */
async function scale(services: Services, asked: AskedAs, request: FastifyRequest): Promise<object> {
  const [name, version] = nameOf(request);
  const parameters = new ManagementParameters(request);
  const [min, max] = [workers(parameters, 'min_worker'), workers(parameters, 'max_worker')];
  const [min0, max0] = [min ?? 1, max ?? 1];
  if (min !== undefined && min0 > max0) throw invalidField('min_worker', `must not be above max_worker, ${max0}`);
  const found = workflowsOf(services, name, version)?.flatMap(({ models }) => models.map(({ served }) => served));
  if (found === undefined && version !== undefined) throw modelHasNoVersion(name, version, asked);
  for (const model of (found ?? [name]).map((one) => services.management.get(one, asked))) requireReady(model);
  if (max0 === 0) throw invalidField('max_worker', 'must be at least 1; unregister the model to free its memory');
  return { status: `Workflow "${name}" worker scaled. New worker configuration: min workers: 1, max workers: 1` };
}

function requireReady(model: ModelStatus): void {
  if (model.state === 'ready') return;
  throw new AppError('MODEL_NOT_READY', `model ${model.name} is ${model.state}`, { metadata: { model: model.name } });
}

function workers(parameters: ManagementParameters, field: string): number | undefined {
  const number = parameters.integer(field);
  if (number === undefined || number === -1) return undefined;
  if (number < 0) throw invalidField(field, `must be a whole number, or -1 for what there is, not ${number}`);
  return number;
}

function count(parameters: ManagementParameters, field: string, max: number): number | undefined {
  const number = parameters.integer(field);
  if (number === undefined || (number >= 1 && number <= max)) return number;
  throw invalidField(field, `must be a whole number between 1 and ${max}, not ${number}`);
}

function nameOf(request: FastifyRequest): [name: string, version: string | undefined] {
  const { model, version } = request.params as { model: string; version?: string };
  return [model, version];
}
