import type { Client } from '@connectrpc/connect';
import type { ModelService } from '../gen/loramux/v1/models_pb.js';
import type { RunCall } from './adapters.js';
import { fromModel } from './from-model.js';
import type { Model, RegisterModelParams } from './model-types.js';
import { PagedList } from './pagination.js';
import type { CallOptions } from './types.js';
import { refuseOthers } from './unknown-fields.js';

/** What `register` takes. */
const NEW = ['url', 'name', 'synchronous', 'dtype', 'loraEnabled', 'maxBatch', 'maxQueue'];

/** `client.models`: the models that are served. */
export class ModelsResource {
  readonly #rpc: Client<typeof ModelService>;
  readonly #run: RunCall;

  constructor(rpc: Client<typeof ModelService>, run: RunCall) {
    this.#rpc = rpc;
    this.#run = run;
  }

  /** Lists by name: `await` gives a page, `for await` every model. */
  list(params: { pageSize?: number; pageToken?: string } = {}, options?: CallOptions): PagedList<Model> {
    refuseOthers(params, ['pageSize', 'pageToken'], 'params of list');
    const { pageSize = 0, pageToken: firstToken } = params;
    return new PagedList(async (pageToken) => {
      const page = await this.#run(options, true, (call) => this.#rpc.listModels({ pageSize, pageToken }, call));
      return { items: page.models.map(fromModel), nextPageToken: page.nextPageToken };
    }, firstToken);
  }

  /** Describes a model. Throws ModelNotFoundError. */
  async get(name: string, options?: CallOptions): Promise<Model> {
    return fromModel((await this.#run(options, true, (call) => this.#rpc.getModel({ name }, call))).model);
  }

  /**
   * Loads a model and serves it under a name; it is usable when this returns. If it cannot be loaded nothing is
   * registered. Throws InvalidRequestError (the name is taken, the url leads to no model or may not be read),
   * UnavailableError (the model is broken).
   */
  async register(params: RegisterModelParams, options?: CallOptions): Promise<Model> {
    refuseOthers(params, NEW, 'a new model');
    const { url, name = '', synchronous, dtype, loraEnabled, maxBatch, maxQueue } = params;
    const request = {
      ...{ url, name },
      ...(synchronous !== undefined && { synchronous }),
      ...(dtype !== undefined && { dtype }),
      ...(loraEnabled !== undefined && { loraEnabled }),
      ...(maxBatch !== undefined && { maxBatch }),
      ...(maxQueue !== undefined && { maxQueue }),
    };
    return fromModel((await this.#run(options, false, (call) => this.#rpc.registerModel(request, call))).model);
  }

  /**
   * Takes a model away; running answers are finished first, with `synchronous: false` after this returns. Throws
   * ModelNotFoundError, InvalidRequestError (workflows use it).
   */
  async unregister(name: string, params: { synchronous?: boolean } = {}, options?: CallOptions): Promise<Model> {
    refuseOthers(params, ['synchronous'], 'params of unregister');
    const request = { name, ...(params.synchronous !== undefined && { synchronous: params.synchronous }) };
    return fromModel((await this.#run(options, false, (call) => this.#rpc.unregisterModel(request, call))).model);
  }
}
