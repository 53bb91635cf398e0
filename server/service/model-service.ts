import { nearNames } from '../adapters/adapter-names.js';
import { AppError } from '../errors.js';
import type { LoadedModel } from './ports.js';
import type { ModelInfo, ModelService } from './types.js';

/** The {@link ModelService} over the loaded models; an engine that has stopped makes its model not ready. */
export function createModelService(models: ReadonlyMap<string, LoadedModel>): ModelService {
  const live = ({ info, engine }: LoadedModel): ModelInfo => ({ ...info, ready: info.ready && engine.alive });
  return {
    list: () => [...models.values()].map(live),

    resolve(name) {
      if (name === undefined) {
        const [only, ...others] = models.values();
        if (only !== undefined && others.length === 0) return live(only);
        const served = [...models.keys()].join(', ');
        const message = `several models are served, so the request must name one of them: ${served}`;
        throw new AppError('INVALID_REQUEST', message, { violations: [{ field: 'model', description: message }] });
      }
      const model = models.get(name);
      if (model !== undefined) return live(model);
      const near = nearNames(name, models.keys());
      const hint =
        near.length > 0 ? `; near names: ${near.join(', ')}` : `; served models: ${[...models.keys()].join(', ')}`;
      throw new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(name)} is not served${hint}`, {
        metadata: { model: name, ...(near.length > 0 && { near: near.join(',') }) },
      });
    },
  };
}
