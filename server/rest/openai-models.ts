/**
 * `/v1/models`, for clients of OpenAI's API: the names that `model` may have in a body of `/v1/chat/completions` and
 * `/v1/completions`. These are the model's own, and those of its adapters and aliases, whose `parent` is the model, as
 * vLLM has it.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
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

/** As many adapters as a listing gives at once. */
const PAGE = 1000;

/** Adds the list, and the path of each name. */
export function addModelNameRoutes(app: FastifyInstance, services: Services, compat: Compat): void {
  const started = Date.now();
  const named = (id: string, createdAt: number, parent?: string): NamedModel => ({
    id,
    object: 'model',
    created: Math.floor(createdAt / 1000),
    owned_by: 'loramux',
    ...(parent !== undefined && { parent }),
  });
  const modelOf = (request: FastifyRequest) => services.models.resolve(modelOfRequest(services, request, [], compat));
  addRoute(app, '/v1/models', 'inference', {
    GET: async (request) => {
      const model = modelOf(request);
      const others = await adapted(services, model);
      const data = [
        named(model.name, started),
        ...others.map(({ name, createdAt }) => named(name, createdAt, model.name)),
      ];
      return { object: 'list', data };
    },
  });
  addRoute(app, '/v1/models/:name', 'inference', {
    GET: async (request) => {
      const model = modelOf(request);
      const { name } = request.params as { name: string };
      if (name === model.name) return named(name, started);
      const found = (await adapted(services, model)).find((other) => other.name === name);
      if (found !== undefined) return named(name, found.createdAt, model.name);
      throw new AppError(
        'MODEL_NOT_FOUND',
        `neither the model nor an adapter of ${model.name} is called ${JSON.stringify(name)}`,
      );
    },
  });
}

/** Adapters and aliases that requests may name, by name; none where they may not choose. */
async function adapted(services: Services, model: ModelInfo): Promise<{ name: string; createdAt: number }[]> {
  if (!model.loraEnabled || model.answeredWith !== undefined) return [];
  const owner = model.answeredBy ?? model.name;
  const names = new Map<string, number>();
  let pageToken = '';
  do {
    const page = await services.adapters.list({ model: owner, pageSize: PAGE, pageToken });
    for (const { name, state, createdAt } of page.adapters) {
      if (state !== 'failed' && state !== 'deleting') names.set(name, createdAt);
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  for (const { name, createdAt } of await services.adapters.listAliases({ model: owner })) names.set(name, createdAt);
  return [...names].map(([name, createdAt]) => ({ name, createdAt })).sort((a, b) => (a.name < b.name ? -1 : 1));
}
