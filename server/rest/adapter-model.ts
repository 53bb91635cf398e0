/** The model of an adapter management route. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { WITHOUT_LORA } from '../service/model-refusals.js';
import type { ModelInfo, Services } from '../service/types.js';

/** Checks in the original's order: the model, then LoRA; the caller goes on with parameters and the adapter. */
export function adapterModel(services: Services, request: FastifyRequest): ModelInfo {
  const { model: name } = request.params as { model?: string };
  if (name === undefined && services.models.defaultName() === undefined) {
    throw new AppError('INVALID_REQUEST', 'no model is the only one of the start; name one: /models/{model}/adapters');
  }
  const resolved = services.models.resolve(name);
  // The short form may stand for a workflow; its model has the adapters.
  const model = name === undefined ? { ...resolved, name: resolved.answeredBy ?? resolved.name } : resolved;
  if (!model.loraEnabled) {
    throw new AppError('LORA_DISABLED', `model ${model.name} ${WITHOUT_LORA}`);
  }
  return model;
}
