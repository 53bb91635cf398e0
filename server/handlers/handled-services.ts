/** The services as the surfaces see them where models have handlers: their adapters, and who answers. */
import { AppError } from '../errors.js';
import type {
  AdapterService,
  CreateAdapterRequest,
  InferenceService,
  ModelInfo,
  ModelService,
  PredictRequest,
  RequestCheck,
  Services,
} from '../service/types.js';
import type { HandlerModels } from './handler-models.js';

/** The same services, with the models of `handlers` among them. */
export function handledServices<S extends Services>(services: S, handlers: HandlerModels): S {
  const models = handledModels(services.models, handlers);
  return {
    ...services,
    models,
    adapters: handledAdapters(services.adapters, models, handlers),
    handlers,
  };
}

function handledModels(inner: ModelService, handlers: HandlerModels): ModelService {
  const marked = (info: ModelInfo): ModelInfo => {
    const handler = handlers.handlerOf(info.name);
    return handler === undefined ? info : { ...info, handler };
  };
  return override(inner, {
    list: () => [
      ...inner
        .list()
        .filter(({ name }) => !handlers.isLeaving(name))
        .map(marked),
      ...handlers.infos(),
    ],
    resolve(name) {
      const wanted = name ?? inner.defaultName();
      if (wanted !== undefined) handlers.refuseLeaving(wanted);
      const named = handlers.infos().find((info) => info.name === wanted);
      return named ?? marked(inner.resolve(name));
    },
  });
}

/** A handler with weights is told of adapters that are loaded; without weights it alone decides. */
function handledAdapters(inner: AdapterService, models: ModelService, handlers: HandlerModels): AdapterService {
  const of = (model: string | undefined) => {
    if (handlers.empty) return undefined;
    // Without the name of a model the listing is of all of them, and the inner service knows best.
    if (model === undefined && models.defaultName() === undefined) return undefined;
    const info = models.resolve(model);
    const handled = handlers.adapters(info.name);
    return handled && { ...handled, model: info.name, loraEnabled: info.loraEnabled };
  };
  return override(inner, {
    async list(request) {
      const handled = of(request.model);
      if (handled === undefined || handled.hasWeights) return inner.list(request);
      return handled.adapters.list(request.pageSize, request.pageToken);
    },
    async get(request) {
      const handled = of(request.model);
      return handled === undefined || handled.hasWeights ? inner.get(request) : handled.adapters.get(request.name);
    },
    async validate(request, call) {
      const handled = of(request.model);
      if (handled === undefined || handled.hasWeights) return inner.validate(request, call);
      throw new AppError('UNIMPLEMENTED', `model ${handled.model} has no weights; its handler judges its adapters`);
    },
    async create(request, call) {
      const handled = of(request.model);
      if (handled === undefined) return inner.create(request, call);
      if (request.replace && handled.adapters.has(request.name)) {
        // A new version is a change to the handler, and must not undo what was there when it is refused.
        const { replace: _, synchronous: __, ...change } = request;
        if (!handled.hasWeights) return handled.adapters.update(change, call);
        return handled.adapters.updateAround(change, call, () => inner.create(request, call));
      }
      if (!handled.hasWeights) return handled.adapters.create(request, call);
      const info = await inner.create(request, call);
      const told: CreateAdapterRequest = { ...request, name: info.name };
      try {
        await handled.adapters.tell('registerAdapter', told, call);
      } catch (refused) {
        // What the handler refuses is not registered: neither here nor there.
        await inner.delete({ model: handled.model, name: info.name }, call).catch(() => {});
        throw refused;
      }
      handled.adapters.note(told);
      return info;
    },
    async update(request, call) {
      const handled = of(request.model);
      if (handled === undefined) return inner.update(request, call);
      if (!handled.hasWeights) return handled.adapters.update(request, call);
      await inner.get(request);
      return handled.adapters.updateAround(request, call, () => inner.update(request, call));
    },
    async delete(request, call) {
      const handled = of(request.model);
      if (handled === undefined) return inner.delete(request, call);
      if (!handled.hasWeights) return handled.adapters.delete(request.name, call);
      const { name, source, preload, pin, options } = await inner.get(request);
      const there = { name, source, preload, pin, options };
      return handled.adapters.deleteAround(there, call, () => inner.delete(request, call));
    },
  });
}

/**
 * The same service, which refuses models and adapters that a handler answers for: no other surface goes round it.
 * @param checks what else a request is checked for
 * @param defaultName the model of requests that name none
 */
export function refuseHandled(
  inner: InferenceService,
  checks: RequestCheck,
  handlers: HandlerModels,
  defaultName: () => string | undefined,
): InferenceService & RequestCheck {
  const admit = async (request: PredictRequest): Promise<void> => {
    const name = request.model ?? defaultName();
    if (name === undefined) return;
    handlers.refuseLeaving(name);
    if (handlers.serves(name)) throw askedElsewhere(name);
    if (!handlers.takesAdapters) return;
    const selections = [request.adapters ?? [], ...request.inputs.map(({ adapters }) => adapters ?? [])];
    for (const adapter of new Set(selections.flat().map(({ name }) => name))) {
      const handled = await handlers.adapterOf(name, adapter);
      if (handled !== undefined) throw askedElsewhere(name, handled);
    }
  };
  return {
    async check(request, streamed) {
      await admit(request);
      await checks.check(request, streamed);
    },
    async predict(request, call) {
      await admit(request);
      return inner.predict(request, call);
    },
    async stream(request, call) {
      await admit(request);
      return inner.stream(request, call);
    },
  };
}

/** What a handler answers has a form of its own, which only HTTP/JSON can give back. */
function askedElsewhere(model: string, adapter?: string): AppError {
  const query = adapter === undefined ? '' : `?adapter=${encodeURIComponent(adapter)}`;
  const invoke = `/models/${encodeURIComponent(model)}/invoke${query}`;
  const what = adapter === undefined ? `model ${JSON.stringify(model)}` : `adapter ${JSON.stringify(adapter)}`;
  const how = adapter === undefined ? '' : ' by a request that names it alone';
  return new AppError(
    'UNIMPLEMENTED',
    `${what} is answered by its handler, in a form of its own; it is asked over HTTP/JSON${how}: POST ${invoke}`,
    { metadata: { model, ...(adapter !== undefined && { adapter }), invoke } },
  );
}

/** The inner object with some methods replaced; whatever else it has is passed on. */
function override<T extends object>(inner: T, methods: Partial<T>): T {
  return new Proxy(inner, {
    get(target, name) {
      const own = methods[name as keyof T];
      if (own !== undefined) return own;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
