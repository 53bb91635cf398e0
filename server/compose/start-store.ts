/** Models of the start that are not named one by one, and how those are named that fail. */
import { modelsOfStore } from '../config/open-model.js';
import type { ServeConfig } from '../config/serve-config.js';
import { AppError } from '../errors.js';
import type { AdapterLog } from '../service/adapter-core.js';
import type { ModelManager } from '../service/model-manager.js';
import type { Workflows } from '../service/workflows/workflow-service.js';

/** Which of several models of the start is broken: not every message names a file. */
export function namingModel(name: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof AppError) || error.reason !== 'MODEL_INVALID') throw error;
    throw new AppError(error.reason, `model ${name}: ${error.message}`, { metadata: error.metadata, cause: error });
  };
}

/** Loads what `--load-models` asks for; a broken one is listed as failed, and the others are served. */
export async function startStore(config: ServeConfig, manager: ModelManager, workflows: Workflows, log: AdapterLog) {
  const { modelStore, loadModels } = config;
  if (modelStore === undefined || /^none$/i.test(loadModels)) return;
  const found = modelsOfStore(modelStore);
  const wanted = /^all$/i.test(loadModels) ? [...found.keys()] : loadModels.split(',').map((name) => name.trim());
  for (const name of wanted) {
    const place = found.get(name);
    if (place === undefined) {
      throw new AppError('MODEL_SOURCE_INVALID', `--load-models: there is no ${JSON.stringify(name)} in ${modelStore}`);
    }
    await (workflows.isWorkflow(place)
      ? workflows.registerAtStart(place)
      : manager.registerAtStart(place, name, undefined, { keepFailed: true })
    ).catch((error: unknown) => log.warn({ model: name, err: error }, `model store: ${name} is not served`));
  }
}
