/** The served models, as the adapter service sees them. */
import type { BaseCheck } from '../adapters/base-identity.js';
import type { AdapterBase } from '../adapters/types.js';
import type { Engine } from '../engine/engine.js';
import { AppError } from '../errors.js';
import { modelGone, WITHOUT_LORA } from './model-refusals.js';

/** What the adapter service needs of a model. */
export interface ServedModel {
  readonly base: AdapterBase;
  readonly engine: Engine;
  /** Key of the engine; models that share an engine have the same. Default: the model's name. */
  readonly pool?: string | undefined;
  /** Sources that are relative paths start here. */
  readonly modelDir: string;
  /** False: every adapter is refused. */
  readonly loraEnabled: boolean;
  /** Features of `BoundAdapter.features` that the engine applies. */
  readonly supportedFeatures: ReadonlySet<string>;
  /** Greatest rank that an adapter may have; absent = any. */
  readonly maxLoraRank?: number | undefined;
  /** What to do with an adapter whose config names another base; default warn. */
  readonly baseCheck?: BaseCheck | undefined;
}

/** The model that an entry of an adapter was made for. Throws MODEL_NOT_FOUND where it went since. */
export function modelOf(
  models: ReadonlyMap<string, ServedModel>,
  entry: { readonly model: string; readonly pool: string },
): ServedModel {
  const model = models.get(entry.model);
  // Another model may have its name by now.
  if (model === undefined || (model.pool ?? entry.model) !== entry.pool) throw modelGone(entry.model);
  return model;
}

/** Finds served models by name. The map is live: models come and go while the server runs. */
export class ServedModels {
  private readonly models: ReadonlyMap<string, ServedModel>;
  private readonly defaultName: (() => string | undefined) | undefined;

  /** @param defaultName the model of requests that name none; absent = the only one there is */
  constructor(models: ReadonlyMap<string, ServedModel>, defaultName?: () => string | undefined) {
    this.models = models;
    this.defaultName = defaultName;
  }

  /** Names of all models. */
  names(): string[] {
    return [...this.models.keys()];
  }

  /** Name of a served model; absent = the only one. Throws MODEL_NOT_FOUND, INVALID_REQUEST. */
  name(name: string | undefined): string {
    const names = this.names();
    if (name === undefined) {
      const only = this.defaultName === undefined && names.length === 1 ? names[0] : this.defaultName?.();
      if (only !== undefined) return only;
      const description = `is missing; several models are served: ${names.join(', ')}`;
      throw new AppError('INVALID_REQUEST', `model ${description}`, { violations: [{ field: 'model', description }] });
    }
    if (!this.models.has(name)) {
      const served = names.join(', ');
      throw new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(name)} is not served; served: ${served}`, {
        metadata: { model: name },
      });
    }
    return name;
  }

  /** A served model. Throws LORA_DISABLED where it is served without LoRA. */
  withLora(name: string): ServedModel {
    const model = this.models.get(name)!;
    if (!model.loraEnabled) {
      throw new AppError('LORA_DISABLED', `model ${JSON.stringify(name)} ${WITHOUT_LORA}`, {
        metadata: { model: name },
      });
    }
    return model;
  }
}
