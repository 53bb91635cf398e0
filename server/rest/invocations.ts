/** The inference routes: `/invocations`, `/predictions/{model}`, `/models/{model}/invoke`, and OpenAI's two paths. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { CUSTOM_ATTRIBUTES } from '../service/adapter-names.js';
import { renamedInference } from '../service/renamed-inference.js';
import type { PredictRequest, Services } from '../service/types.js';
import { readPlaces } from './adapter-places.js';
import { answerLater, answerNow } from './answering.js';
import { type Asked, askedOfHandler, askedOfServer } from './asked.js';
import { type Body, isObject } from './body.js';
import type { Compat } from './compat.js';
import { fieldTexts, readBody, readFields } from './content.js';
import type { Ask } from './dialect.js';
import { answerFetch, type NameOf } from './fetching.js';
import { kindOf, textField } from './fields.js';
import type { FormField } from './form.js';
import { handledAdapter } from './handled-adapter.js';
import { answerByHandler } from './handler-answer.js';
import { customAttribute, header, queryValues } from './headers.js';
import { refuseUnread, tellIgnored, unreadQuery } from './ignored.js';
import type { LaterAnswers } from './later.js';
import { startingToken, wantsLater } from './later-headers.js';
import { readLmi } from './lmi.js';
import {
  modelNamed,
  modelOfField,
  modelOfPath,
  modelOfRequest,
  modelUnnamed,
  versionOfRequest,
  withVersion,
} from './model-choice.js';
import { readChat, readCompletion } from './openai.js';
import { refuseUnoffered } from './openai-unoffered.js';
import { isAdapter, refuseOtherModel, requireRegistered } from './registered-names.js';
import { addRoute } from './route.js';
import { nameOfAnswer, selectAdapters } from './selection.js';

/** What the routes need besides the services. */
export interface InferenceRouteOptions {
  readonly compat: Compat;
  /** Keeps the answers to fetch later. */
  readonly later: LaterAnswers;
}

/** Adds the inference routes. */
export function addInferenceRoutes(app: FastifyInstance, services: Services, options: InferenceRouteOptions): void {
  const { compat } = options;
  const byPath = (request: FastifyRequest, fields: readonly FormField[] | undefined): string => {
    const { model: path, version } = request.params as { model: string; version?: string };
    const model = modelOfPath(request, path, fieldTexts(fields, 'model_name'), compat);
    return withVersion(model, versionOfRequest(request, version));
  };
  const byRequest = (request: FastifyRequest, fields: readonly FormField[] | undefined): string => {
    const model = modelOfRequest(services, request, fieldTexts(fields, 'model_name'), compat);
    return withVersion(model, versionOfRequest(request, undefined));
  };
  // OpenAI's clients know one place for a model.
  const byField: ModelOf = async (request, fields, body) => {
    const named =
      modelNamed(services, request, fieldTexts(fields, 'model_name'), compat) ??
      (compat === 'djl' ? undefined : await modelOfField(services, body));
    return withVersion(named ?? modelUnnamed(services), versionOfRequest(request, undefined));
  };
  // A token says which answer is meant: a fetch need not name the model, also where several are served.
  const byToken: NameOf = (request, fields) => {
    const version = versionOfRequest(request, undefined);
    const named = modelNamed(services, request, fieldTexts(fields, 'model_name'), compat);
    const model = named ?? (version === undefined ? undefined : services.models.defaultName());
    return model === undefined ? undefined : withVersion(model, version);
  };
  const post = (modelOf: ModelOf, nameOf: NameOf) => ({
    POST: async (request: FastifyRequest, reply: FastifyReply) => {
      refuseHandlers(request);
      const token = startingToken(request);
      if (token === undefined) await invoke(services, options, request, reply, modelOf);
      else await answerFetch(services, options.later, token, request, reply, { compat, nameOf });
      return reply;
    },
    OPTIONS: async (request: FastifyRequest, reply: FastifyReply) => {
      services.models.resolve(await modelOf(request, undefined));
      return reply.header('allow', 'POST, OPTIONS').send({});
    },
  });
  addRoute(app, '/invocations', 'inference', post(byRequest, byToken));
  addRoute(app, '/v1/chat/completions', 'inference', post(byField, byToken));
  addRoute(app, '/v1/completions', 'inference', post(byField, byToken));
  addRoute(app, '/predictions/:model', 'inference', post(byPath, byPath));
  addRoute(app, '/models/:model/invoke', 'inference', post(byPath, byPath));
  addRoute(app, '/predictions/:model/:version', 'inference', post(byPath, byPath));
}

/** The name of the model that a request means. @param body reads it, once; undefined where it cannot be read */
type ModelOf = (
  request: FastifyRequest,
  fields: readonly FormField[] | undefined,
  body?: () => Body | undefined,
) => string | Promise<string>;

async function invoke(
  services: Services,
  { compat, later }: InferenceRouteOptions,
  request: FastifyRequest,
  reply: FastifyReply,
  modelOf: ModelOf,
): Promise<void> {
  const fields = await readFields(request);
  const firstPlaceCounts = compat === 'djl';
  let parsed: Attempt<Body> | undefined;
  const parse = () => {
    parsed ??= attempt(() => readBody(request, fields));
    return parsed;
  };
  const model = services.models.resolve(await modelOf(request, fields, () => parse().value));
  const owner = model.answeredBy ?? model.name;
  const readAll = async () => {
    const read = parse();
    const isName = (name: string) => isAdapter(services, owner, name);
    return { read, places: await readPlaces(request, fields, read.value, model, isName) };
  };
  /** Opens the place for an answer of which the request wants a token; undefined = it wants the answer. */
  const openFor = async (asked: () => Asked | Promise<Asked>) => {
    if (!wantsLater(request)) return undefined;
    const from = await asked();
    return () => later.open(from);
  };
  if (services.handlers?.serves(model.name)) {
    await requireRegistered(services, model.name, queryValues(request, 'adapter'));
    // The body is the handler's to read.
    const open = await openFor(async () => askedOfHandler(model, await readAll(), compat));
    await answerByHandler(services.handlers, { model: model.name, firstPlaceCounts }, fields, open, request, reply);
    return;
  }
  const { read, places } = await readAll();
  const adapter = await handledAdapter(services.handlers, model, places, compat);
  if (adapter !== undefined) {
    const open = await openFor(() => askedOfHandler(model, { read, places }, compat));
    const wanted = { model: owner, adapter, firstPlaceCounts };
    await answerByHandler(services.handlers!, wanted, fields, open, request, reply);
    return;
  }
  if (read.value === undefined) throw read.fault;
  const { ask, body, modelField } = readAsk(read.value, request);
  const shape = { count: ask.prompts.length, isList: ask.isList };
  const selections = selectAdapters(places, shape, compat);
  const isIgnored = modelField !== undefined && modelField !== model.name && places.modelField === undefined;
  if (isIgnored && selections === undefined && compat !== 'djl') await refuseOtherModel(services, model, modelField);
  if (compat === 'djl') await requireRegistered(services, owner, queryValues(request, 'adapter'));
  const selected = selections !== undefined;
  const chosen = selected || model.answeredWith !== undefined;
  refuseUnread(request, { body, names: ask.ignored, known: [model.name, owner], selected, chosen }, compat);
  // What is null asks for nothing.
  const unread = ask.ignored.filter((name) => body[name] !== null);
  tellIgnored(reply, [...unread, ...(isIgnored ? ['model'] : []), ...unreadQuery(request)]);
  const predict: PredictRequest = {
    model: model.name,
    inputs: ask.prompts.map((prompt, index) => ({ prompt, adapters: selections?.[index] })),
    parameters: ask.parameters,
  };
  const open = await openFor(() => askedOfServer(model, modelField, shape, selections));
  const inference = renamedInference(services.inference, ask.nameOf);
  const wanted = { ask, predict, model: nameOfAnswer(model.name, modelField, selections) };
  if (open !== undefined) await answerLater(inference, open, wanted, request, reply);
  else await answerNow(inference, wanted, request, reply);
}

/** What came of something that may throw. */
type Attempt<T> =
  | { readonly value: T; readonly fault?: undefined }
  | { readonly value?: undefined; readonly fault: unknown };

function attempt<T>(act: () => T): Attempt<T> {
  try {
    return { value: act() };
  } catch (fault) {
    return { fault };
  }
}

/** The field that bodies of a path have: what a request without any is told. Each path takes the others, too. */
const OWN_FIELD: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'messages',
  '/v1/completions': 'prompt',
};
const EXAMPLES = new Map([
  ['inputs', '{"inputs": "..."}'],
  ['messages', '{"messages": [{"role": "user", "content": "..."}]}'],
  ['prompt', '{"prompt": "..."}'],
]);

function readAsk(
  body: Body,
  { routeOptions }: FastifyRequest,
): { ask: Ask; body: Record<string, unknown>; modelField: string | undefined } {
  const own = OWN_FIELD[routeOptions.url ?? ''] ?? 'inputs';
  const example = EXAMPLES.get(own);
  if (body.kind === 'none') throw new AppError('INVALID_REQUEST', `the body is empty; send ${example}`);
  // A bare text is a list of one, as the original's handler takes it.
  const value = body.kind === 'text' ? { inputs: [body.text] } : body.value;
  if (!isObject(value)) {
    throw new AppError('INVALID_REQUEST', `the body must be an object such as ${example}, not ${kindOf(value)}`);
  }
  if (own !== 'inputs') refuseUnoffered(value);
  return { ask: readDialect(value, own), body: value, modelField: textField(value.model, 'model') };
}

function readDialect(body: Record<string, unknown>, own: string): Ask {
  if (body.inputs !== undefined) return readLmi(body);
  if (body.prompt !== undefined) return readCompletion(body);
  if (body.messages !== undefined) return readChat(body);
  const others = [...EXAMPLES.keys()].filter((field) => field !== own).map((field) => `or ${field}`);
  throw new AppError('INVALID_REQUEST', `the body must have ${own} (${others.join(', ')})`, {
    violations: [{ field: own, description: 'is missing' }],
  });
}

/** A header `handler` picked functions of the model's own code in the original. */
function refuseHandlers(request: FastifyRequest): void {
  if (header(request, 'handler') !== undefined || customAttribute(header(request, CUSTOM_ATTRIBUTES), 'handler')) {
    throw new AppError('INVALID_REQUEST', 'the header handler is not allowed in a request');
  }
}
