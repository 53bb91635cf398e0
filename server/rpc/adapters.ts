import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import {
  type AdapterSchema,
  type AdapterService as AdapterServiceDesc,
  AdapterState as AdapterStateMessage,
} from '../../gen/loramux/v1/adapters_pb.js';
import type { AdapterInfo, AdapterService, AdapterState } from '../service/types.js';
import { callContext } from './call.js';
import { assertValid } from './validation.js';

/** Largest page; a larger request gets this many (https://google.aip.dev/158). */
const MAX_PAGE_SIZE = 1000;

const STATES: Readonly<Record<AdapterState, AdapterStateMessage>> = {
  registered: AdapterStateMessage.REGISTERED,
  loading: AdapterStateMessage.LOADING,
  ready: AdapterStateMessage.READY,
  failed: AdapterStateMessage.FAILED,
  deleting: AdapterStateMessage.DELETING,
};

function toAdapter(info: AdapterInfo): MessageInitShape<typeof AdapterSchema> {
  return {
    name: info.name,
    model: info.model,
    digest: info.digest,
    source: info.source,
    state: STATES[info.state],
    ...(info.error !== undefined && { error: info.error }),
    preload: info.preload,
    pin: info.pin,
    options: { ...info.options },
    ranks: [...info.ranks],
    scalings: [...info.scalings],
    targetModules: [...info.targetModules],
    features: [...info.features],
    warnings: [...info.warnings],
    weightBytes: BigInt(info.bytes),
    runningRows: info.runningRows,
    createTime: timestampFromMs(info.createdAt),
    ...(info.loadedAt !== undefined && { loadTime: timestampFromMs(info.loadedAt) }),
    ...(info.lastUsedAt !== undefined && { lastUseTime: timestampFromMs(info.lastUsedAt) }),
  };
}

/** An empty model name is no choice. */
const modelOf = (model: string): string | undefined => (model === '' ? undefined : model);

/** Serves `loramux.v1.AdapterService`. */
export function adapterRpc(service: AdapterService): ServiceImpl<typeof AdapterServiceDesc> {
  return {
    async listAdapters(request) {
      assertValid(request);
      const { pageToken } = request;
      const pageSize = Math.min(request.pageSize, MAX_PAGE_SIZE);
      const page = await service.list({ model: modelOf(request.model), pageSize, pageToken });
      return { adapters: page.adapters.map(toAdapter), nextPageToken: page.nextPageToken };
    },

    async getAdapter(request) {
      assertValid(request);
      return { adapter: toAdapter(await service.get({ model: modelOf(request.model), name: request.name })) };
    },

    async createAdapter(request, context) {
      assertValid(request);
      const { name, source, preload, pin, options } = request;
      const create = { model: modelOf(request.model), name, source, preload, pin, options };
      return { adapter: toAdapter(await service.create(create, callContext(context))) };
    },

    async validateAdapter(request) {
      assertValid(request);
      const { valid, reason, faults, tensors, summary } = await service.validate({
        model: modelOf(request.model),
        source: request.source,
      });
      return {
        valid,
        reason: reason ?? '',
        faults: [...faults],
        tensors: tensors.map(({ shape, bytes, ...tensor }) => ({
          ...tensor,
          shape: shape.map(BigInt),
          storedBytes: BigInt(bytes),
        })),
        digest: summary?.digest ?? '',
        weightBytes: BigInt(summary?.bytes ?? 0),
        features: [...(summary?.features ?? [])],
        warnings: [...(summary?.warnings ?? [])],
      };
    },

    async deleteAdapter(request, context) {
      assertValid(request);
      const deleted = await service.delete({ model: modelOf(request.model), name: request.name }, callContext(context));
      return { adapter: toAdapter(deleted) };
    },
  };
}
