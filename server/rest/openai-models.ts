/**
 * `/v1/models`, for clients of OpenAI's API: the names that `model` may have in a body of `/v1/chat/completions` and
 * `/v1/completions`. These are the model's own, and those of its adapters and aliases, whose `parent` is the model, as
 * vLLM has it.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { allAdapters } from '../service/all-adapters.js';
import type { ModelInfo, Services } from '../service/types.js';
import type { Compat } from './compat.js';
import { modelOfRequest } from './model-choice.js';
import { addRoute } from './route.js';

/** One name, in OpenAI's form. */
interface NamedModel {
  readonly id: string;
  readonly object: 'model';
  /** Unix seconds. */
  readonly created: number;
  readonly owned_by: 'loramux';
  /** What an adapter or alias is on; absent for the model. */
  readonly parent?: string;
}

/** Adds the list, and the path of each name. */
export function addModelNameRoutes(app: FastifyInstance, services: Services, compat: Compat): void {
  const started = Date.now();
  const modelOf = (request: FastifyRequest) => services.models.resolve(modelOfRequest(services, request, [], compat));
  const namesOf = async (model: ModelInfo) => [
    named(model.name, started),
    ...(await adapted(services, model)).map(({ name, createdAt }) => named(name, createdAt, model.name)),
  ];
  addRoute(app, '/v1/models', 'inference', {
    GET: async (request) => ({ object: 'list', data: await namesOf(modelOf(request)) }),
  });
  addRoute(app, '/v1/models/:name', 'inference', {
    GET: async (request) => {
      const model = modelOf(request);
      const { name } = request.params as { name: string };
      const found = (await namesOf(model)).find(({ id }) => id === name);
      if (found !== undefined) return found;
      const quoted = JSON.stringify(name);
      throw new AppError('MODEL_NOT_FOUND', `neither the model nor an adapter of ${model.name} is called ${quoted}`);
    },
  });
}

function named(id: string, createdAt: number, parent?: string): NamedModel {
  const created = Math.floor(createdAt / 1000);
  return { id, object: 'model', created, owned_by: 'loramux', ...(parent !== undefined && { parent }) };
}

/** Adapters and aliases that requests may name, by name; none where they may not choose. */
async function adapted(services: Services, model: ModelInfo): Promise<{ name: string; createdAt: number }[]> {
  if (!model.loraEnabled || model.answeredWith !== undefined) return [];
  const owner = model.answeredBy ?? model.name;
  const adapters = await allAdapters(services.adapters, owner);
  const usable = adapters.filter(({ state }) => state !== 'failed' && state !== 'deleting');
  // An alias and an adapter share their names.
  const all = [...usable, ...(await services.adapters.listAliases({ model: owner }))];
  return all.sort((a, b) => (a.name < b.name ? -1 : 1));
}
