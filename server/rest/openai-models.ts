/**
 * `/v1/models`, for clients of OpenAI's API: the names that `model` may have in a body of `/v1/chat/completions` and
 * `/v1/completions`. These are those of the models and workflows that are served, and of the adapters and aliases of the
 * one that answers where nothing else is said, whose `parent` it is, as vLLM has it.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { allAdapters } from '../service/all-adapters.js';
import type { ModelInfo, Services } from '../service/types.js';
import type { Compat } from './compat.js';
import { modelNamed, servedNames } from './model-choice.js';
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
  const namesFor = async (request: FastifyRequest): Promise<NamedModel[]> => {
    const asked = modelNamed(services, request, [], compat);
    const answering = asked ?? services.models.defaultName();
    const own = answering === undefined ? [] : await namesOf(services.models.resolve(answering), started, services);
    if (asked !== undefined) return own;
    // An adapter's name hides that of another model.
    const others = servedNames(services).filter((name) => own.every(({ id }) => id !== name));
    return [...own, ...others.map((name) => named(name, started))];
  };
  addRoute(app, '/v1/models', 'inference', {
    GET: async (request) => ({ object: 'list', data: await namesFor(request) }),
  });
  addRoute(app, '/v1/models/:name', 'inference', {
    GET: async (request) => {
      const { name } = request.params as { name: string };
      const found = (await namesFor(request)).find(({ id }) => id === name);
      if (found !== undefined) return found;
      throw new AppError(
        'MODEL_NOT_FOUND',
        `no model, workflow, adapter or alias that may be asked for here is called ${JSON.stringify(name)}`,
      );
    },
  });
}

/** A model's name, and those of its adapters. */
async function namesOf(model: ModelInfo, started: number, services: Services): Promise<NamedModel[]> {
  const all = await adapted(services, model);
  return [named(model.name, started), ...all.map(({ name, createdAt }) => named(name, createdAt, model.name))];
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
