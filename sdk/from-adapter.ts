import { type Timestamp, timestampDate } from '@bufbuild/protobuf/wkt';
import {
  type AdapterEvent as AdapterEventMessage,
  type Adapter as AdapterMessage,
  AdapterState as AdapterStateMessage,
  type Alias as AliasMessage,
  type ValidateAdapterResponse,
  type WatchAdaptersResponse,
} from '../gen/loramux/v1/adapters_pb.js';
import type { Adapter, AdapterEvent, AdapterLogEntry, AdapterReport, AdapterState, Alias } from './adapter-types.js';
import { known } from './from-message.js';

const STATES: Readonly<Record<AdapterStateMessage, AdapterState | undefined>> = {
  [AdapterStateMessage.UNSPECIFIED]: undefined,
  [AdapterStateMessage.REGISTERED]: 'registered',
  [AdapterStateMessage.LOADING]: 'loading',
  [AdapterStateMessage.READY]: 'ready',
  [AdapterStateMessage.FAILED]: 'failed',
  [AdapterStateMessage.DELETING]: 'deleting',
};

const date = (time: Timestamp | undefined): Date | undefined => time && timestampDate(time);

/** Plain object of an adapter. */
export function fromAdapter(message: AdapterMessage | undefined): Adapter {
  const { $typeName: _, $unknown: __, progress, handler, ...adapter } = known(message, 'response without an adapter');
  return {
    ...adapter,
    state: known(STATES[adapter.state], 'state of an adapter'),
    weightBytes: Number(adapter.weightBytes),
    revision: Number(adapter.revision),
    handler: handler && { file: handler.file, runs: handler.runs },
    progress: progress && {
      stage: progress.stage,
      doneBytes: Number(progress.doneBytes),
      ...(progress.totalBytes !== undefined && { totalBytes: Number(progress.totalBytes) }),
    },
    versions: adapter.versions.map(({ digest, source, createTime }) => ({
      ...{ digest, source },
      createTime: date(createTime),
    })),
    createTime: date(adapter.createTime),
    updateTime: date(adapter.updateTime),
    loadTime: date(adapter.loadTime),
    lastUseTime: date(adapter.lastUseTime),
  };
}

/** Plain object of a validation report. */
export function fromReport(message: ValidateAdapterResponse): AdapterReport {
  const { valid, reason, faults, digest, weightBytes, features, warnings } = message;
  return {
    valid,
    ...(reason !== '' && { reason }),
    faults: [...faults],
    tensors: message.tensors.map(({ file, name, dtype, shape, storedBytes, module, use, rank, scaling }) => ({
      file,
      name,
      dtype,
      shape: shape.map(Number),
      storedBytes: Number(storedBytes),
      module,
      use,
      ...(rank !== undefined && { rank }),
      ...(scaling !== undefined && { scaling }),
    })),
    digest,
    weightBytes: Number(weightBytes),
    features: [...features],
    warnings: [...warnings],
  };
}

/** Plain object of an alias. */
export function fromAlias(message: AliasMessage | undefined): Alias {
  const { name, model, targets, createTime, updateTime, revision } = known(message, 'response without an alias');
  return {
    ...{ name, model },
    targets: targets.map(({ adapter, digest, share }) => ({ adapter, ...(digest !== '' && { digest }), share })),
    createTime: date(createTime),
    updateTime: date(updateTime),
    revision: Number(revision),
  };
}

/** Plain object of a line of the log. */
export function fromLogEntry(message: AdapterEventMessage): AdapterLogEntry {
  const { $typeName: _, $unknown: __, time, revision, detail, ...entry } = message;
  return { ...entry, revision: Number(revision), time: date(time), detail: detail ?? {} };
}

/** Plain object of what a watcher is told; undefined for a kind that this version does not know. */
export function fromWatch({ event, resumeToken }: WatchAdaptersResponse): AdapterEvent | undefined {
  switch (event.case) {
    case 'changed':
      return { type: 'changed', adapter: fromAdapter(event.value), resumeToken };
    case 'alias':
      return { type: 'alias', alias: fromAlias(event.value), resumeToken };
    case 'deleted':
      return { type: 'deleted', model: event.value.model, name: event.value.name, resumeToken };
    case 'synced':
      return { type: 'synced', snapshot: event.value.snapshot, resumeToken };
    default:
      return undefined;
  }
}
