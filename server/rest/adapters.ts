/** Adapter management: `/models/{model}/adapters...` and, where one model is served, `/adapters...`. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { AdapterInfo, CreateAdapterRequest, ModelInfo, Services } from '../service/types.js';
import { callContext } from './call-context.js';
import { invalidField } from './fields.js';
import { parametersOf } from './parameters-of.js';
import { booleanText, pageLimit, singleValues } from './query.js';
import { addRoute } from './route.js';

/** Adds both forms of the routes. */
export function addAdapterRoutes(app: FastifyInstance, services: Services): void {
  for (const prefix of ['/models/:model/adapters', '/adapters']) {
    addRoute(app, prefix, 'management', {
      GET: (request) => list(services, request),
      POST: (request, reply) => register(services, request, reply),
    });
    addRoute(app, `${prefix}/:adapter`, 'management', {
      GET: (request) => describe(services, request),
      DELETE: (request, reply) => unregister(services, request, reply),
    });
    addRoute(app, `${prefix}/:adapter/update`, 'management', {
      POST: (request) => update(services, request),
    });
    addRoute(app, `${prefix}/validate`, 'management', {
      POST: (request) => validate(services, request),
      // An adapter may be named like the action.
      GET: (request) => describe(services, request, 'validate'),
      DELETE: (request, reply) => unregister(services, request, reply, 'validate'),
    });
    // An unknown action of a known form is a wrong method to the original, and clients may look at that.
    addRoute(app, `${prefix}/:adapter/:action`, 'management', {});
  }
}

async function list(services: Services, request: FastifyRequest): Promise<object> {
  const model = modelOf(services, request);
  const query = singleValues(request);
  const page = await services.adapters.list({
    model: model.name,
    pageSize: pageLimit(query.limit),
    ...(query.next_page_token ? { pageToken: query.next_page_token } : {}),
  });
  const verbose = booleanText(query.verbose, 'verbose') ?? false;
  return {
    ...(page.nextPageToken === '' ? {} : { nextPageToken: page.nextPageToken }),
    adapters: page.adapters.map((info) => adapterJson(info, verbose)),
  };
}

/** What a registration of `src` would say; faults of the adapter are in the answer, which is 200. */
async function validate(services: Services, request: FastifyRequest): Promise<object> {
  const model = modelOf(services, request);
  const { src } = parametersOf(request);
  if (!src) throw invalidField('src', 'is missing; give the folder with the adapter');
  return services.adapters.validate({ model: model.name, source: src });
}

async function describe(services: Services, request: FastifyRequest, name = adapterOf(request)): Promise<object> {
  const model = modelOf(services, request);
  const info = await services.adapters.get({ model: model.name, name });
  return adapterJson(info, booleanText(singleValues(request).verbose, 'verbose') ?? false);
}

async function register(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const model = modelOf(services, request);
  const wanted = readRegistration(request);
  await services.adapters.create({ ...wanted, model: model.name }, callContext(request, reply));
  return { status: `Adapter ${displayName(request, wanted.name)} registered` };
}

async function unregister(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  name = adapterOf(request),
): Promise<object> {
  const model = modelOf(services, request);
  await services.adapters.delete({ model: model.name, name }, callContext(request, reply));
  return { status: `Adapter ${displayName(request, name)} unregistered` };
}

/** Accepts what changes nothing; changes to a registered adapter are not offered yet. */
async function update(services: Services, request: FastifyRequest): Promise<object> {
  const model = modelOf(services, request);
  const info = await services.adapters.get({ model: model.name, name: adapterOf(request) });
  const { src, preload, pin, ...options } = parametersOf(request);
  const same =
    (src === undefined || src === info.source) &&
    (booleanText(preload, 'preload') ?? info.preload) === info.preload &&
    (booleanText(pin, 'pin') ?? info.pin) === info.pin &&
    Object.entries(options).every(([key, value]) => info.options[key] === value);
  if (!same) {
    throw new AppError(
      'UNIMPLEMENTED',
      `adapter ${info.name} cannot be changed while it is registered; delete it and register it again`,
    );
  }
  return { status: `Adapter ${displayName(request, info.name)} updated` };
}

/** Checks in the original's order: the model, then LoRA; the caller goes on with parameters and the adapter. */
function modelOf(services: Services, request: FastifyRequest): ModelInfo {
  const { model: name } = request.params as { model?: string };
  if (name === undefined && services.models.defaultName() === undefined) {
    throw new AppError('INVALID_REQUEST', 'no model is the only one of the start; name one: /models/{model}/adapters');
  }
  const resolved = services.models.resolve(name);
  // The short form may stand for a workflow; its model has the adapters.
  const model = name === undefined ? { ...resolved, name: resolved.answeredBy ?? resolved.name } : resolved;
  if (!model.loraEnabled) {
    throw new AppError('LORA_DISABLED', `model ${model.name} is served without LoRA (option.enable_lora=false)`);
  }
  return model;
}

function adapterOf(request: FastifyRequest): string {
  return (request.params as { adapter: string }).adapter;
}

function readRegistration(request: FastifyRequest): CreateAdapterRequest {
  const { name, src, preload, pin, ...options } = parametersOf(request);
  if (!name) throw invalidField('name', 'is missing; give the name that requests will use');
  if (!src) throw invalidField('src', 'is missing; give the folder with the adapter');
  return { name, source: src, preload: booleanText(preload, 'preload'), pin: booleanText(pin, 'pin'), options };
}

/** The alias header stands in status texts only; nothing can be found by it. */
function displayName(request: FastifyRequest, name: string): string {
  const alias = request.headers['x-amzn-sagemaker-adapter-alias'];
  return typeof alias === 'string' && alias !== '' ? alias : name;
}

/** Exactly the original's four fields, or with `?verbose=true` all that is known. */
function adapterJson(info: AdapterInfo, verbose: boolean): object {
  const short = { name: info.name, src: info.source, preload: info.preload, pin: info.pin };
  if (!verbose) return short;
  return {
    ...short,
    model: info.model,
    digest: info.digest,
    state: info.state,
    ...(info.error === undefined ? {} : { error: info.error }),
    options: info.options,
    ranks: info.ranks,
    scalings: info.scalings,
    target_modules: info.targetModules,
    features: info.features,
    warnings: info.warnings,
    bytes: info.bytes,
    running_rows: info.runningRows,
    created_at: timeJson(info.createdAt),
    loaded_at: timeJson(info.loadedAt),
    last_used_at: timeJson(info.lastUsedAt),
  };
}

function timeJson(milliseconds: number | undefined): string | undefined {
  return milliseconds === undefined ? undefined : new Date(milliseconds).toISOString();
}
