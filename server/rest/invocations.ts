/** The inference routes: `/invocations`, `/predictions/{model}`, `/models/{model}/invoke`, `/v1/chat/completions`. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { PredictRequest, Services } from '../service/types.js';
import { decodeBody, isObject } from './body.js';
import { callContext } from './call-context.js';
import type { Ask } from './dialect.js';
import { kindOf } from './fields.js';
import { readLmi } from './lmi.js';
import { readChat, readCompletion } from './openai.js';
import { ADAPTER_HEADER, receiptHeader } from './receipt.js';
import { addRoute } from './route.js';
import { customAttribute, selectAdapters } from './selection.js';
import { sendStream } from './streaming.js';

/** Names of body fields and parameters that were not used, so that a misspelt one is not lost in silence. */
export const IGNORED_HEADER = 'x-loramux-ignored';

type Query = Readonly<Record<string, string | string[] | undefined>>;

/** Adds the inference routes. */
export function addInferenceRoutes(app: FastifyInstance, services: Services): void {
  const byPath = (request: FastifyRequest) => (request.params as { model: string }).model;
  const post = (modelOf: (request: FastifyRequest) => string | undefined) => ({
    POST: async (request: FastifyRequest, reply: FastifyReply) => {
      await invoke(services, request, reply, modelOf(request));
      return reply;
    },
    OPTIONS: async (request: FastifyRequest, reply: FastifyReply) => {
      services.models.resolve(modelOf(request));
      return reply.header('allow', 'POST, OPTIONS').send({});
    },
  });
  const open = post((request) => modelOfRequest(services, request));
  addRoute(app, '/invocations', 'inference', open);
  addRoute(app, '/v1/chat/completions', 'inference', open);
  addRoute(app, '/predictions/:model', 'inference', post(byPath));
  addRoute(app, '/models/:model/invoke', 'inference', post(byPath));
  addRoute(app, '/predictions/:model/:version', 'inference', {
    POST: async (request) => {
      const { model, version } = request.params as { model: string; version: string };
      services.models.resolve(model);
      throw new AppError('MODEL_NOT_FOUND', `model ${model} has no version ${version}; leave the version out`, {
        metadata: { model, version },
      });
    },
  });
}

/** Model of a request that names none in its path: query, header, custom attribute, Target-Model, the only one. */
function modelOfRequest(services: Services, request: FastifyRequest): string {
  const models = services.models.list();
  const named =
    single((request.query as Query).model_name, 'model_name') ??
    single(request.headers.model_name, 'model_name') ??
    customAttribute(header(request, 'x-amzn-sagemaker-custom-attributes'), 'model_name');
  if (named !== undefined && named !== '') return named;
  const target = header(request, 'x-amzn-sagemaker-target-model')?.replace(/\.tar\.gz$/, '');
  // With one model the header can mean no other: platforms put the archive's name there, whatever the model is called.
  if (models.length === 1) return models[0]!.name;
  if (target !== undefined && target !== '') return target;
  throw new AppError(
    'INVALID_REQUEST',
    `several models are served; say which with ?model_name= (${models.map((model) => model.name).join(', ')})`,
    { violations: [{ field: 'model_name', description: 'is needed where several models are served' }] },
  );
}

async function invoke(
  services: Services,
  request: FastifyRequest,
  reply: FastifyReply,
  modelName: string | undefined,
): Promise<void> {
  const model = services.models.resolve(modelName);
  refuseHandlers(request);
  const { ask, adapters, modelField } = readAsk(request);
  const modelNames = modelField === undefined || modelField === model.name ? undefined : modelField;
  const asAdapter = modelNames !== undefined && (await isAdapter(services, model.name, modelNames));
  const selections = selectAdapters(
    {
      body: adapters,
      query: many((request.query as Query).adapter),
      customAttribute: customAttribute(header(request, 'x-amzn-sagemaker-custom-attributes'), 'adapter'),
      identifier: header(request, 'x-amzn-sagemaker-adapter-identifier'),
      modelField: asAdapter ? modelNames : undefined,
    },
    { count: ask.prompts.length, isList: ask.isList },
  );
  const ignored = [...ask.ignored, ...(modelNames !== undefined && !asAdapter ? ['model'] : [])];
  if (ignored.length > 0) reply.header(IGNORED_HEADER, ignored.map(encodeURIComponent).join(', ').slice(0, 1024));
  const predict: PredictRequest = {
    model: model.name,
    inputs: ask.prompts.map((prompt, index) => ({ prompt, adapters: selections[index]! })),
    parameters: ask.parameters,
  };
  const call = callContext(request, reply);
  if (ask.stream) {
    const sse = /\btext\/event-stream\b/.test(request.headers.accept ?? '');
    await sendStream(reply, await services.inference.stream(predict, call), ask.renderer(sse), call.signal);
    return;
  }
  const results = await services.inference.predict(predict, call);
  reply.header(ADAPTER_HEADER, receiptHeader(results.map((result) => result.receipt)));
  reply.send(ask.answer(results));
}

function readAsk(request: FastifyRequest): { ask: Ask; adapters: unknown; modelField: string | undefined } {
  const body = decodeBody(request.body, request.headers['content-type']);
  if (body.kind === 'none') throw new AppError('INVALID_REQUEST', 'the body is empty; send {"inputs": "..."}');
  // A bare text is a list of one, as the original's handler takes it.
  const value = body.kind === 'text' ? { inputs: [body.text] } : body.value;
  if (!isObject(value)) {
    throw new AppError('INVALID_REQUEST', `the body must be an object such as {"inputs": "..."}, not ${kindOf(value)}`);
  }
  const modelField = typeof value.model === 'string' ? value.model : undefined;
  return { ask: readDialect(value), adapters: value.adapters, modelField };
}

function readDialect(body: Record<string, unknown>): Ask {
  if (body.inputs !== undefined) return readLmi(body);
  if (body.prompt !== undefined) return readCompletion(body);
  if (body.messages !== undefined) return readChat(body);
  throw new AppError('INVALID_REQUEST', 'the body must have inputs (or messages, or prompt)', {
    violations: [{ field: 'inputs', description: 'is missing' }],
  });
}

/** A header `handler` picked functions of the model's own code in the original, and tokens an asynchronous answer. */
function refuseHandlers(request: FastifyRequest): void {
  if (header(request, 'handler') !== undefined) {
    throw new AppError('INVALID_REQUEST', 'the header handler is not allowed in a request');
  }
  const asynchronous = header(request, 'x-synchronous')?.toLowerCase() === 'false';
  if (asynchronous || header(request, 'x-starting-token') !== undefined) {
    throw new AppError('UNIMPLEMENTED', 'answers to fetch later (x-synchronous, x-starting-token) are not offered');
  }
}

async function isAdapter(services: Services, model: string, name: string): Promise<boolean> {
  try {
    await services.adapters.get({ model, name });
    return true;
  } catch {
    return false;
  }
}

function header(request: FastifyRequest, name: string): string | undefined {
  const value = request.headers[name];
  return Array.isArray(value) ? value.join(', ') : value;
}

function many(value: string | string[] | undefined): string[] {
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}

function single(value: string | string[] | undefined, name: string): string | undefined {
  if (!Array.isArray(value)) return value;
  if (value.every((entry) => entry === value[0])) return value[0];
  throw new AppError('INVALID_REQUEST', `${name} is given several times with different values`);
}
