import type { MessageInitShape } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type ModelSchema, ModelState as ModelStateMessage } from '../../gen/loramux/v1/models_pb.js';
import type { WorkflowSchema } from '../../gen/loramux/v1/workflows_pb.js';
import type { ModelState, ModelStatus } from '../service/management.js';
import type { ModelInfo } from '../service/types.js';
import type { WorkflowInfo } from '../service/workflows/types.js';

const STATES: Readonly<Record<ModelState, ModelStateMessage>> = {
  loading: ModelStateMessage.LOADING,
  ready: ModelStateMessage.READY,
  failed: ModelStateMessage.FAILED,
  unloading: ModelStateMessage.UNLOADING,
};

function description(info: ModelInfo): NonNullable<MessageInitShape<typeof ModelSchema>['description']> {
  return {
    modelType: info.modelType,
    parameters: BigInt(info.parameters),
    dtype: info.dtype,
    contextLength: info.contextLength,
    vocabSize: info.vocabSize,
    baseFingerprint: info.fingerprint,
    loraEnabled: info.loraEnabled,
    handler: info.handler ?? '',
    device: info.device?.name ?? '',
    deviceReason: info.device?.why ?? '',
  };
}

/** Message of a model. */
export function toModel(model: ModelStatus): MessageInitShape<typeof ModelSchema> {
  const { name, url, state, error, info, startup, direct, workflows } = model;
  return {
    ...{ name, url, startup, direct },
    state: STATES[state],
    ...(error !== undefined && { error }),
    ...(info !== undefined && { description: description(info) }),
    workflows: [...workflows],
    runningRows: model.runningRows,
    waitingRows: model.waitingRows,
    maxBatch: model.maxBatch,
    maxQueue: model.maxQueue,
    createTime: timestampFromMs(model.createdAt),
  };
}

/** Message of a workflow. */
export function toWorkflow(workflow: WorkflowInfo): MessageInitShape<typeof WorkflowSchema> {
  const { name, version, definition, startup, calls, createdAt, error = '' } = workflow;
  return {
    ...{ name, version, definition, startup, calls: [...calls], error },
    models: workflow.models.map(({ local, served, url }) => ({ localName: local, model: served, url })),
    adapters: workflow.adapters.map((adapter) => ({ ...adapter })),
    createTime: timestampFromMs(createdAt),
  };
}
