/** What is served: `GET /models`, `GET /models/{model}`, `GET /ping`, in DJL Serving's form. */
import { pathToFileURL } from 'node:url';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { AppError } from '../errors.js';
import type { ModelInfo, Services } from '../service/types.js';
import { invalidField } from './fields.js';
import { pageLimit, singleValues } from './query.js';
import { addRoute } from './route.js';

/**
 * Adds the routes.
 * @param draining true once the server ends: `/ping` then tells so, before anything is refused
 */
export function addModelRoutes(app: FastifyInstance, services: Services, draining: () => boolean): void {
  const notOffered = async () => {
    throw new AppError(
      'UNIMPLEMENTED',
      'models are named when the server starts (--model); they cannot be changed here',
    );
  };
  addRoute(app, '/models', 'management', {
    GET: async (request) => {
      const query = singleValues(request);
      const models = services.models.list().toSorted((a, b) => (a.name < b.name ? -1 : 1));
      const start = pageStart(query.next_page_token);
      const end = start + pageLimit(query.limit);
      return {
        ...(end < models.length ? { nextPageToken: String(end) } : {}),
        models: models.slice(start, end).map((model) => ({
          modelName: model.name,
          modelUrl: pathToFileURL(model.path).href,
          status: model.ready ? 'READY' : 'FAILED',
        })),
      };
    },
    POST: notOffered,
  });
  addRoute(app, '/models/:model', 'inference', {
    GET: async (request) => {
      const model = services.models.resolve((request.params as { model: string }).model);
      return [{ workflowName: model.name, models: [modelJson(model)] }];
    },
    PUT: notOffered,
    DELETE: notOffered,
  });
  const ping = async (_request: unknown, reply: FastifyReply) => {
    const models = services.models.list();
    const status = (model: ModelInfo) => (draining() ? 'ShuttingDown' : model.ready ? 'Healthy' : 'Failed');
    reply.code(draining() ? 503 : models.every((model) => model.ready) ? 200 : 500);
    return Object.fromEntries(models.map((model) => [model.name, { status: status(model) }]));
  };
  addRoute(app, '/ping', 'management', { GET: ping, POST: ping });
  addRoute(app, '/', 'management', { GET: async () => services.models.list().map((model) => model.name) });
}

function pageStart(token: string | undefined): number {
  if (token === undefined || token === '') return 0;
  if (!/^\d{1,9}$/.test(token)) throw invalidField('next_page_token', 'is no token of this list');
  return Number(token);
}

function modelJson(model: ModelInfo): object {
  return {
    modelName: model.name,
    modelUrl: pathToFileURL(model.path).href,
    status: model.ready ? 'Healthy' : 'Failed',
    loadedAtStartup: true,
    modelType: model.modelType,
    parameters: model.parameters,
    dtype: model.dtype,
    contextLength: model.contextLength,
    vocabSize: model.vocabSize,
    fingerprint: model.fingerprint,
    loraEnabled: model.loraEnabled,
  };
}
