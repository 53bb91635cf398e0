import type { ServiceImpl } from '@connectrpc/connect';
import type { ModelService as ModelServiceDesc } from '../../gen/loramux/v1/models_pb.js';
import type { ModelManagement, RegisterModelRequest } from '../service/management.js';
import { pageOf } from '../service/name-page.js';
import { renameFields } from '../service/renamed-fields.js';
import { callContext } from './call.js';
import { toModel } from './model-message.js';
import { assertValid } from './validation.js';

/** Fails with the fields by their names in the schema, where the service has those of the management routes. */
function byNames(thrown: unknown): never {
  throw renameFields(thrown, (field) => (field === 'model_name' ? 'name' : field));
}

/** Serves `loramux.v1.ModelService`. */
export function modelRpc(models: ModelManagement): ServiceImpl<typeof ModelServiceDesc> {
  return {
    async listModels(request) {
      assertValid(request);
      const { items, nextPageToken } = pageOf(
        models.list(),
        ({ name }) => [name, ''],
        request.pageSize,
        request.pageToken,
      );
      return { models: items.map(toModel), nextPageToken };
    },

    async getModel(request) {
      assertValid(request);
      return { model: toModel(models.get(request.name)) };
    },

    async registerModel(request, context) {
      assertValid(request);
      const { url, name, synchronous, dtype, loraEnabled, maxBatch, maxQueue } = request;
      const wanted: RegisterModelRequest = {
        ...{ url, dtype, loraEnabled, maxBatch, maxQueue },
        ...(name !== '' && { name }),
        ...(synchronous !== undefined && { wait: synchronous }),
      };
      return { model: toModel(await models.register(wanted, callContext(context)).catch(byNames)) };
    },

    async unregisterModel(request, context) {
      assertValid(request);
      const { name, synchronous = true } = request;
      return { model: toModel(await models.unregister(name, callContext(context), { wait: synchronous })) };
    },
  };
}
