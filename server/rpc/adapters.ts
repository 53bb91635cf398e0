import type { ServiceImpl } from '@connectrpc/connect';
import type { AdapterService as AdapterServiceDesc } from '../../gen/loramux/v1/adapters_pb.js';
import type { AdapterService } from '../service/types.js';
import { toAdapter, toAlias, toEvent, toWatch } from './adapter-message.js';
import { callContext } from './call.js';
import { updateRequest } from './update-request.js';
import { assertValid } from './validation.js';

/** Largest page; a larger request gets this many (https://google.aip.dev/158). */
const MAX_PAGE_SIZE = 1000;

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
      const { name, source, preload, pin, options, replace, synchronous, expectedDigest } = request;
      const expected = expectedDigest !== '' && { expectedDigest };
      const settings = { source, preload, pin, options, replace, synchronous, ...expected };
      const create = { model: modelOf(request.model), name, ...settings };
      return { adapter: toAdapter(await service.create(create, callContext(context))) };
    },

    async validateAdapter(request, context) {
      assertValid(request);
      const { valid, reason, faults, tensors, summary } = await service.validate(
        { model: modelOf(request.model), source: request.source },
        callContext(context),
      );
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
      const { name, expectedDigest } = request;
      const asked = { model: modelOf(request.model), name, ...(expectedDigest !== '' && { expectedDigest }) };
      return { adapter: toAdapter(await service.delete(asked, callContext(context))) };
    },

    async updateAdapter(request, context) {
      assertValid(request);
      return { adapter: toAdapter(await service.update(updateRequest(request), callContext(context))) };
    },

    async *watchAdapters(request, context) {
      assertValid(request);
      const { resumeToken } = request;
      const asked = { model: modelOf(request.model), resumeToken };
      for await (const event of service.watch(asked, callContext(context))) yield toWatch(event);
    },

    async listAdapterEvents(request) {
      assertValid(request);
      const { name, pageToken } = request;
      const pageSize = Math.min(request.pageSize, MAX_PAGE_SIZE);
      const asked = { model: modelOf(request.model), ...(name !== '' && { name }), pageSize, pageToken };
      const page = await service.events(asked);
      return { events: page.events.map(toEvent), nextPageToken: page.nextPageToken };
    },

    async setAlias(request, context) {
      assertValid(request);
      const asked = { model: modelOf(request.model), name: request.name, targets: request.targets };
      return { alias: toAlias(await service.setAlias(asked, callContext(context))) };
    },

    async getAlias(request) {
      assertValid(request);
      return { alias: toAlias(await service.getAlias({ model: modelOf(request.model), name: request.name })) };
    },

    async listAliases(request) {
      assertValid(request);
      return { aliases: (await service.listAliases({ model: modelOf(request.model) })).map(toAlias) };
    },

    async deleteAlias(request, context) {
      assertValid(request);
      const asked = { model: modelOf(request.model), name: request.name };
      return { alias: toAlias(await service.deleteAlias(asked, callContext(context))) };
    },
  };
}
