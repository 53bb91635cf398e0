import { nearNames } from '../adapters/adapter-names.js';
import { takesRows } from '../engine/engine.js';
import { AppError } from '../errors.js';
import { modelHasNoVersion } from './model-refusals.js';
import type { LoadedModel } from './ports.js';
import type { ModelInfo, ModelService } from './types.js';

/** What the service knows besides the loaded models; everything is asked for at each call. */
export interface ModelServiceOptions {
  /** What answers requests that name nothing; absent = the only model, if there is one only. */
  readonly defaultName?: (() => string | undefined) | undefined;
  /** Why a registered model does not answer; undefined = it does, or is not registered. */
  readonly notReady?: ((name: string) => AppError | undefined) | undefined;
  /** What a workflow answers with: the model of its last call, and the adapter of an only one; undefined = no such workflow. */
  readonly workflowCall?:
    | ((name: string) => { readonly model: string; readonly adapter?: string | undefined } | undefined)
    | undefined;
  /** Throws WORKFLOW_NOT_FOUND where a workflow has the name, and not that version. */
  readonly workflowVersion?: ((name: string, version: string) => void) | undefined;
  /** Names of the workflows, which answer as models do. */
  readonly workflowNames?: (() => readonly string[]) | undefined;
}

/** The {@link ModelService} over the loaded models; an engine that takes no rows makes its model not ready. */
export function createModelService(
  models: ReadonlyMap<string, LoadedModel>,
  options: ModelServiceOptions = {},
): ModelService {
  // Every request asks, and every time it is told the same until the engine stops, or stalls.
  const stopped = new WeakMap<ModelInfo, ModelInfo>();
  const live = ({ info, engine }: LoadedModel): ModelInfo => {
    if (!info.ready || takesRows(engine)) return info;
    const told = stopped.get(info) ?? { ...info, ready: false };
    stopped.set(info, told);
    return told;
  };
  const only = () => (models.size === 1 ? models.keys().next().value : undefined);
  const defaultName = options.defaultName ?? only;

  /** No name of a model or workflow has a "/": what follows it is a version. */
  const requireVersion = (name: string, version: string): void => {
    options.workflowVersion?.(name, version);
    if (models.has(name)) throw modelHasNoVersion(name, version);
  };

  const resolve = (name: string | undefined): ModelInfo => {
    if (name === undefined) {
      const named = defaultName();
      if (named !== undefined) return resolve(named);
      const served = [...models.keys()].join(', ');
      const message = `the request must name one of the served models (model_name): ${served}`;
      throw new AppError('INVALID_REQUEST', message, { violations: [{ field: 'model', description: message }] });
    }
    const answering = options.workflowCall?.(name);
    const model = models.get(answering?.model ?? name);
    if (model !== undefined && answering === undefined) return live(model);
    if (model !== undefined)
      return { ...live(model), name, answeredBy: answering!.model, answeredWith: answering!.adapter };
    const waiting = options.notReady?.(name);
    if (waiting !== undefined) throw waiting;
    const at = name.indexOf('/');
    if (at > 0) requireVersion(name.slice(0, at), name.slice(at + 1));
    const workflows = [...new Set(options.workflowNames?.())];
    const near = nearNames(name, [...models.keys(), ...workflows]);
    const served = `served models: ${[...models.keys()].join(', ')}${workflows.length === 0 ? '' : `; workflows: ${workflows.join(', ')}`}`;
    const hint = near.length > 0 ? `; near names: ${near.join(', ')}` : `; ${served}`;
    throw new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(name)} is not served${hint}`, {
      metadata: { model: name, ...(near.length > 0 && { near: near.join(',') }) },
    });
  };

  return { list: () => [...models.values()].map(live), defaultName, resolve };
}
