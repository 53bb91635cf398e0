/** During a shutdown running rows finish and new work is refused, whatever surface it comes from. */
import { AppError } from '../errors.js';
import type { Services } from './types.js';

/** The same services, which refuse new work once `draining()` is true. Reading stays possible. */
export function refuseWhileDraining(services: Services, draining: () => boolean): Services {
  const admit = (): void => {
    if (draining()) {
      throw new AppError('SHUTTING_DOWN', 'the server is shutting down and takes no new work', { retryAfterMs: 5000 });
    }
  };
  const { inference, adapters, models, management, workflows, handlers } = services;
  return {
    models,
    management: {
      list: () => management.list(),
      get: (name, asked) => management.get(name, asked),
      async register(request, call) {
        admit();
        return management.register(request, call);
      },
      async unregister(name, call, options) {
        admit();
        return management.unregister(name, call, options);
      },
    },
    workflows: {
      list: () => workflows.list(),
      get: (name, version) => workflows.get(name, version),
      async register(source, call) {
        admit();
        return workflows.register(source, call);
      },
      definitionAt: (url) => workflows.definitionAt(url),
      async schedule(source, call) {
        admit();
        return workflows.schedule(source, call);
      },
      async unregister(name, version, call) {
        admit();
        return workflows.unregister(name, version, call);
      },
    },
    ...(handlers && {
      handlers: {
        serves: (model) => handlers.serves(model),
        takesAdapters: handlers.takesAdapters,
        adapterOf: (model, name) => handlers.adapterOf(model, name),
        async handle(request, call) {
          admit();
          return handlers.handle(request, call);
        },
      },
    }),
    inference: {
      async predict(request, call) {
        admit();
        return inference.predict(request, call);
      },
      async stream(request, call) {
        admit();
        return inference.stream(request, call);
      },
    },
    adapters: {
      list: (request) => adapters.list(request),
      get: (request) => adapters.get(request),
      validate: (request, call) => adapters.validate(request, call),
      async create(request, call) {
        admit();
        return adapters.create(request, call);
      },
      async update(request, call) {
        admit();
        return adapters.update(request, call);
      },
      async delete(request, call) {
        admit();
        return adapters.delete(request, call);
      },
      watch: (request, call) => adapters.watch(request, call),
      events: (request) => adapters.events(request),
      listAliases: (request) => adapters.listAliases(request),
      getAlias: (request) => adapters.getAlias(request),
      async setAlias(request, call) {
        admit();
        return adapters.setAlias(request, call);
      },
      async deleteAlias(request, call) {
        admit();
        return adapters.deleteAlias(request, call);
      },
    },
  };
}
