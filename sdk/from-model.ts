import { timestampDate } from '@bufbuild/protobuf/wkt';
import { type Model as ModelMessage, ModelState as ModelStateMessage } from '../gen/loramux/v1/models_pb.js';
import type { Workflow as WorkflowMessage } from '../gen/loramux/v1/workflows_pb.js';
import { known } from './from-message.js';
import type { Model, ModelState, Workflow } from './model-types.js';

const STATES: Readonly<Record<ModelStateMessage, ModelState | undefined>> = {
  [ModelStateMessage.UNSPECIFIED]: undefined,
  [ModelStateMessage.LOADING]: 'loading',
  [ModelStateMessage.READY]: 'ready',
  [ModelStateMessage.FAILED]: 'failed',
  [ModelStateMessage.UNLOADING]: 'unloading',
};

/** Plain object of a model. */
export function fromModel(message: ModelMessage | undefined): Model {
  const { $typeName: _, $unknown: __, description, createTime, ...model } = known(message, 'response without a model');
  return {
    ...model,
    state: known(STATES[model.state], 'state of a model'),
    description: description && {
      modelType: description.modelType,
      parameters: Number(description.parameters),
      dtype: description.dtype,
      contextLength: description.contextLength,
      vocabSize: description.vocabSize,
      baseFingerprint: description.baseFingerprint,
      loraEnabled: description.loraEnabled,
      handler: description.handler,
      device: description.device,
      deviceReason: description.deviceReason,
    },
    createTime: createTime && timestampDate(createTime),
  };
}

/** Plain object of a workflow. */
export function fromWorkflow(message: WorkflowMessage | undefined): Workflow {
  const { name, version, calls, definition, startup, error, createTime, ...parts } = known(
    message,
    'response without a workflow',
  );
  return {
    ...{ name, version, calls, definition, startup, error },
    models: parts.models.map(({ localName, model, url }) => ({ localName, model, url })),
    adapters: parts.adapters.map((adapter) => ({ name: adapter.name, model: adapter.model, source: adapter.source })),
    createTime: createTime && timestampDate(createTime),
  };
}
