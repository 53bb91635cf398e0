/** Models and workflows in DJL Serving's form, in which a model is a workflow of one model. */
import { pathToFileURL } from 'node:url';
import type { AskedAs, ModelStatus } from '../service/management.js';
import { modelHasNoVersion } from '../service/model-refusals.js';
import type { Services } from '../service/types.js';
import type { WorkflowInfo } from '../service/workflows/types.js';

/** A line of `GET /models`. */
export function modelLine(model: ModelStatus): object {
  const states = { loading: 'PENDING', ready: 'READY', failed: 'FAILED', unloading: 'UNLOADING' };
  return { modelName: model.name, modelUrl: urlOf(model), status: states[model.state] };
}

/** A line of `GET /workflows`. */
export function workflowLine({ name, version }: Pick<WorkflowInfo, 'name' | 'version'>): object {
  return { workflowName: name, ...(version !== '' && { version }) };
}

/**
 * What `GET /models/{name}` and `GET /workflows/{name}` answer.
 * @throws AppError MODEL_NOT_FOUND or WORKFLOW_NOT_FOUND, as it was asked for; WORKFLOW_NOT_FOUND (another version is there)
 */
export function describeEndpoint(
  services: Services,
  asked: AskedAs,
  name: string,
  version: string | undefined,
): object[] {
  const found = workflowsOf(services, name, version);
  if (found !== undefined) {
    return found.map((workflow) => ({
      ...workflowLine(workflow),
      ...(workflow.error !== undefined && { error: workflow.error }),
      models: workflow.models.map(({ served }) => modelJson(services.management.get(served))),
      adapters: workflow.adapters,
      calls: workflow.calls,
      loadedAtStartup: workflow.startup,
    }));
  }
  const model = services.management.get(name, asked);
  if (version !== undefined) throw modelHasNoVersion(name, version, asked);
  return [{ workflowName: name, models: [modelJson(model)] }];
}

/** Versions of a workflow; undefined where only a model has the name. Throws WORKFLOW_NOT_FOUND for other versions. */
export function workflowsOf(
  services: Services,
  name: string,
  version: string | undefined,
): readonly WorkflowInfo[] | undefined {
  if (!services.workflows.list().some((workflow) => workflow.name === name)) return undefined;
  return services.workflows.get(name, version);
}

function urlOf({ info, url, origin }: ModelStatus): string {
  if (origin !== undefined) return origin;
  if (info !== undefined) return pathToFileURL(info.path).href;
  return url.startsWith('/') ? pathToFileURL(url).href : url;
}

function modelJson(model: ModelStatus): object {
  const { info, state } = model;
  const states = { loading: 'Pending', ready: 'Healthy', failed: 'Failed', unloading: 'Unloading' };
  return {
    modelName: model.name,
    modelUrl: urlOf(model),
    status: states[state],
    ...(model.error !== undefined && { error: model.error }),
    loadedAtStartup: model.startup,
    batchSize: model.maxBatch,
    queueSize: model.maxQueue,
    requestInQueue: model.waitingRows,
    runningRows: model.runningRows,
    ...(model.workflows.length > 0 && { workflows: model.workflows }),
    ...(info !== undefined && {
      modelType: info.modelType,
      parameters: info.parameters,
      dtype: info.dtype,
      contextLength: info.contextLength,
      vocabSize: info.vocabSize,
      fingerprint: info.fingerprint,
      loraEnabled: info.loraEnabled,
      ...(info.device && { device: info.device.name, deviceReason: info.device.why }),
    }),
    // One engine thread serves each model; there is nothing to scale.
    workerGroups: [
      {
        device:
          info?.device?.name === 'webgpu' ? { deviceType: 'gpu', deviceId: 0 } : { deviceType: 'cpu', deviceId: -1 },
        minWorkers: 1,
        maxWorkers: 1,
        workers: [{ id: 0, startTime: new Date(model.createdAt).toISOString(), status: modelState(state) }],
      },
    ],
  };
}

function modelState(state: ModelStatus['state']): string {
  return state === 'ready' ? 'READY' : state === 'loading' ? 'STARTING' : 'FAILED';
}
