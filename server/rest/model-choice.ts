/** Which model a request means that names none in its path. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { Services } from '../service/types.js';
import type { Compat } from './compat.js';
import { CUSTOM_ATTRIBUTES, header, only, queryValues } from './headers.js';
import { customAttribute } from './selection.js';

/**
 * Query `model_name`, header, custom attribute, form field, the only model that is served, Target-Model; in this order.
 * @param fields values of a form's `model_name`
 * @throws AppError INVALID_REQUEST where several models are served and none is named
 */
export function modelOfRequest(
  services: Services,
  request: FastifyRequest,
  fields: readonly string[],
  compat: Compat,
): string {
  const named =
    only(queryValues(request, 'model_name'), 'model_name') ??
    header(request, 'model_name') ??
    customAttribute(header(request, CUSTOM_ATTRIBUTES), 'model_name') ??
    only(fields, 'model_name');
  if (named !== undefined && named !== '') return named;
  const models = services.models.list();
  // With one model Target-Model can mean no other: platforms put the archive's name there, whatever the model is called.
  if (models.length === 1) return models[0]!.name;
  const target = header(request, 'x-amzn-sagemaker-target-model')?.replace(/\.tar\.gz$/, '');
  // The original leaves that header to the platform in front of it.
  if (compat !== 'djl' && target !== undefined && target !== '') return target;
  throw new AppError(
    'INVALID_REQUEST',
    `several models are served; say which with ?model_name= (${models.map((model) => model.name).join(', ')})`,
    { violations: [{ field: 'model_name', description: 'is needed where several models are served' }] },
  );
}
