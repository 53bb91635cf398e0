/** Adapter management: `/models/{model}/adapters...` and, where one model is served, `/adapters...`. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { ALIAS_HEADER, isWeight } from '../service/adapter-names.js';
import type { AdapterInfo, CreateAdapterRequest, ModelInfo, Services } from '../service/types.js';
import { adapterJson, eventJson } from './adapter-json.js';
import { adapterModel } from './adapter-model.js';
import { watchAdapters } from './adapter-watch.js';
import { callContext } from './call-context.js';
import { invalidField } from './fields.js';
import { header } from './headers.js';
import { ManagementParameters } from './management-parameters.js';
import { pageFrom, pageLimit } from './pages.js';
import { booleanText, singleValues } from './query.js';
import { addRoute } from './route.js';

/** Adds both forms of the routes. */
export function addAdapterRoutes(app: FastifyInstance, services: Services): void {
  for (const prefix of ['/models/:model/adapters', '/adapters']) {
    addRoute(app, prefix, 'management', {
      GET: (request, reply) => list(services, request, reply),
      POST: (request, reply) => register(services, request, reply),
    });
    addRoute(app, `${prefix}/:adapter`, 'management', {
      GET: (request) => describe(services, request),
      DELETE: (request, reply) => unregister(services, request, reply),
    });
    addRoute(app, `${prefix}/:adapter/update`, 'management', {
      POST: (request, reply) => update(services, request, reply),
    });
    addRoute(app, `${prefix}/validate`, 'management', {
      POST: (request, reply) => validate(services, request, reply),
      // An adapter may be named like the action.
      GET: (request) => describe(services, request, 'validate'),
      DELETE: (request, reply) => unregister(services, request, reply, 'validate'),
    });
    addRoute(app, prefix.replace(/adapters$/, 'adapter-events'), 'management', {
      GET: (request) => events(services, request),
    });
    // An unknown action of a known form is a wrong method to the original, and clients may look at that.
    addRoute(app, `${prefix}/:adapter/:action`, 'management', {}, noAction);
  }
}

/** The one action of an adapter has a path of its own. */
function noAction({ method, params }: FastifyRequest): string {
  const { adapter, action } = params as { adapter: string; action: string };
  const name = encodeURIComponent(adapter);
  return `there is no ${method} ${JSON.stringify(action)} of an adapter; there is POST .../${name}/update, and a "/" in a name is sent as %2F`;
}

async function list(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object | undefined> {
  const model = adapterModel(services, request);
  const query = singleValues(request);
  if (booleanText(query.watch, 'watch') === true) {
    const resumeToken = query.resume_token || undefined;
    await watchAdapters(services, request, reply, { model: model.name, resumeToken });
    return undefined;
  }
  const page = await pageFrom(
    services.adapters.list({
      model: model.name,
      pageSize: pageLimit(query.limit),
      ...(query.next_page_token ? { pageToken: query.next_page_token } : {}),
    }),
  );
  const verbose = booleanText(query.verbose, 'verbose') ?? false;
  return {
    ...(page.nextPageToken === '' ? {} : { nextPageToken: page.nextPageToken }),
    adapters: page.adapters.map((info) => adapterJson(info, verbose)),
  };
}

/** What a registration of `src` would say; faults of the adapter are in the answer, which is 200. */
async function validate(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const model = adapterModel(services, request);
  const parameters = new ManagementParameters(request);
  const src = parameters.text('src');
  parameters.end('src');
  if (!src) throw invalidField('src', 'is missing; give the folder with the adapter');
  return services.adapters.validate({ model: model.name, source: src }, callContext(request, reply));
}

async function describe(services: Services, request: FastifyRequest, name = adapterOf(request)): Promise<object> {
  const model = adapterModel(services, request);
  const info = await services.adapters.get({ model: model.name, name });
  return adapterJson(info, booleanText(singleValues(request).verbose, 'verbose') ?? false);
}

async function register(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const model = adapterModel(services, request);
  const wanted = readRegistration(services, model, request);
  const info = await services.adapters.create({ ...wanted, model: model.name }, callContext(request, reply));
  const shown = displayName(request, info);
  if (wanted.synchronous !== false) return { status: `Adapter ${shown} registered` };
  reply.code(202);
  return { status: `Adapter ${shown} registration scheduled` };
}

async function unregister(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  name = adapterOf(request),
): Promise<object> {
  const model = adapterModel(services, request);
  const parameters = new ManagementParameters(request);
  const expectedDigest = parameters.filled('expected_digest');
  parameters.end('expected_digest');
  const asked = { model: model.name, name, ...(expectedDigest && { expectedDigest }) };
  const info = await services.adapters.delete(asked, callContext(request, reply));
  return { status: `Adapter ${displayName(request, info)} unregistered` };
}

/** Changes what is named; a `src` is read anew and taken as a whole, or nothing changes. */
async function update(services: Services, request: FastifyRequest, reply: FastifyReply): Promise<object> {
  const model = adapterModel(services, request);
  const name = adapterOf(request);
  const parameters = new ManagementParameters(request);
  const named = parameters.text('name');
  if (named !== undefined && named.normalize('NFC') !== name.normalize('NFC')) {
    throw invalidField(
      'name',
      `is ${JSON.stringify(named)}, and the path names ${JSON.stringify(name)}; a name cannot be changed`,
    );
  }
  const [source, digest, expectedDigest] = ['src', 'digest', 'expected_digest'].map((name) => parameters.filled(name));
  const change = {
    model: model.name,
    name,
    ...(source && { source }),
    ...(digest && { digest }),
    ...(expectedDigest && { expectedDigest }),
    preload: parameters.boolean('preload'),
    pin: parameters.boolean('pin'),
    mergeOptions: { ...optionsOf(services, model, parameters), ...aliasOption(request) },
  };
  const info = await services.adapters.update(change, callContext(request, reply));
  return { status: `Adapter ${displayName(request, info)} updated` };
}

/** The log of changes, newest first. */
async function events(services: Services, request: FastifyRequest): Promise<object> {
  const model = adapterModel(services, request);
  const query = singleValues(request);
  const page = await pageFrom(
    services.adapters.events({
      model: model.name,
      name: query.name || undefined,
      pageSize: pageLimit(query.limit),
      pageToken: query.next_page_token ?? '',
    }),
  );
  return {
    ...(page.nextPageToken === '' ? {} : { nextPageToken: page.nextPageToken }),
    events: page.events.map(eventJson),
  };
}

function adapterOf(request: FastifyRequest): string {
  return (request.params as { adapter: string }).adapter;
}

function readRegistration(services: Services, model: ModelInfo, request: FastifyRequest): CreateAdapterRequest {
  const parameters = new ManagementParameters(request);
  const name = parameters.text('name');
  const source = parameters.text('src');
  if (!name) throw invalidField('name', 'is missing; give the name that requests will use');
  if (!source) throw invalidField('src', 'is missing; give the folder with the adapter');
  const expectedDigest = parameters.filled('expected_digest');
  // As an option it would be kept, and whatever the source has be registered.
  if (parameters.text('digest') !== undefined)
    throw invalidField('digest', 'belongs to updates, which go back to it; a registration takes what its src has');
  return {
    name,
    source,
    preload: parameters.boolean('preload'),
    pin: parameters.boolean('pin'),
    replace: parameters.boolean('replace'),
    synchronous: parameters.boolean('synchronous'),
    ...(expectedDigest && { expectedDigest }),
    options: { ...optionsOf(services, model, parameters), ...aliasOption(request) },
  };
}

/** Names that change what a call does, each as {@link spelling} has it. */
const OURS = new Map(
  ['name', 'src', 'preload', 'pin', 'replace', 'synchronous', 'expected_digest'].map((name) => [spelling(name), name]),
).set('source', 'src');

/** A name without what slips: its case, and how words are joined. */
function spelling(name: string): string {
  return name.toLowerCase().replaceAll(/[-_.]/g, '');
}

/**
 * What is left becomes options. A weight would be kept as one, and the adapter applied as a whole; so would a misspelt
 * condition, and the call be done without it. To a custom handler its options are its own.
 */
function optionsOf(services: Services, model: ModelInfo, parameters: ManagementParameters): Record<string, string> {
  if (services.handlers?.serves(model.name)) return parameters.options();
  for (const name of parameters.left) {
    const meant = OURS.get(spelling(name)) ?? (/^expected|digest/i.test(name) ? 'expected_digest' : undefined);
    if (meant !== undefined) throw invalidField(name, `is no parameter of this call; ${meant} is`);
  }
  const weight = parameters.left.find(isWeight);
  if (weight !== undefined) {
    throw invalidField(
      weight,
      'belongs to requests for answers: {"adapters": [{"name": "a", "weight": 0.5}]}; a registration has none',
    );
  }
  return parameters.options();
}

/** The option that keeps what the header said. */
function aliasOption(request: FastifyRequest): Readonly<Record<string, string>> {
  const alias = header(request, ALIAS_HEADER);
  return alias !== undefined && alias !== '' ? { [ALIAS_HEADER]: alias } : {};
}

/** The alias, as this request or one before it gave it, stands in status texts only; nothing can be found by it. */
function displayName(request: FastifyRequest, { name, options }: Pick<AdapterInfo, 'name' | 'options'>): string {
  return aliasOption(request)[ALIAS_HEADER] ?? options[ALIAS_HEADER] ?? name;
}
