import type { JsonObject, MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import {
  type AdapterEventSchema,
  type AdapterSchema,
  AdapterState as AdapterStateMessage,
  type AliasSchema,
  type WatchAdaptersResponseSchema,
} from '../../gen/loramux/v1/adapters_pb.js';
import type { AdapterEventInfo, AdapterInfo, AdapterState, AdapterWatchEvent, AliasInfo } from '../service/types.js';

const STATES: Readonly<Record<AdapterState, AdapterStateMessage>> = {
  registered: AdapterStateMessage.REGISTERED,
  loading: AdapterStateMessage.LOADING,
  ready: AdapterStateMessage.READY,
  failed: AdapterStateMessage.FAILED,
  deleting: AdapterStateMessage.DELETING,
};

/** Message of an adapter. */
export function toAdapter(info: AdapterInfo): MessageInitShape<typeof AdapterSchema> {
  const { progress } = info;
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
    ...(info.handler !== undefined && { handler: { ...info.handler } }),
    weightBytes: BigInt(info.bytes),
    runningRows: info.runningRows,
    createTime: timestampFromMs(info.createdAt),
    updateTime: timestampFromMs(info.updatedAt),
    ...(info.loadedAt !== undefined && { loadTime: timestampFromMs(info.loadedAt) }),
    ...(info.lastUsedAt !== undefined && { lastUseTime: timestampFromMs(info.lastUsedAt) }),
    revision: BigInt(info.revision),
    ...(progress !== undefined && {
      progress: {
        stage: progress.stage,
        doneBytes: BigInt(progress.doneBytes),
        ...(progress.totalBytes !== undefined && { totalBytes: BigInt(progress.totalBytes) }),
      },
    }),
    versions: (info.versions ?? []).map(({ digest, source, createdAt }) => ({
      digest,
      source,
      createTime: timestampFromMs(createdAt),
    })),
  };
}

/** Message of an alias. */
export function toAlias(alias: AliasInfo): MessageInitShape<typeof AliasSchema> {
  const { name, model, createdAt, updatedAt, revision } = alias;
  return {
    name,
    model,
    targets: alias.targets.map(({ adapter, digest = '', share }) => ({ adapter, digest, share })),
    createTime: timestampFromMs(createdAt),
    updateTime: timestampFromMs(updatedAt),
    revision: BigInt(revision),
  };
}

/** Message of a line of the log. */
export function toEvent(event: AdapterEventInfo): MessageInitShape<typeof AdapterEventSchema> {
  const { revision, at, detail, ...rest } = event;
  return { ...rest, revision: BigInt(revision), time: timestampFromMs(at), detail: detail as JsonObject };
}

/** Message of what a watcher is told. */
export function toWatch(event: AdapterWatchEvent): MessageInitShape<typeof WatchAdaptersResponseSchema> {
  const { resumeToken } = event;
  switch (event.type) {
    case 'changed':
      return { event: { case: 'changed', value: toAdapter(event.adapter) }, resumeToken };
    case 'alias':
      return { event: { case: 'alias', value: toAlias(event.alias) }, resumeToken };
    case 'deleted':
      return { event: { case: 'deleted', value: { model: event.model, name: event.name } }, resumeToken };
    case 'synced':
      return { event: { case: 'synced', value: { snapshot: event.snapshot } }, resumeToken };
  }
}
