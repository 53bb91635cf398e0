/** Which model a request means: by its path, or by the other places that may name one. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import { CUSTOM_ATTRIBUTES } from '../service/adapter-names.js';
import type { Services } from '../service/types.js';
import { modelFieldOf } from './asked.js';
import type { Body } from './body.js';
import type { Compat } from './compat.js';
import { customAttribute, header, only, queryValues } from './headers.js';
import { isAdapter } from './registered-names.js';

/**
 * The model of a path that names one, which the other places must not contradict: its answer would be another model's than
 * they say. The original does not look at them.
 * @param fields values of a form's `model_name`
 * @throws AppError INVALID_REQUEST where another place names another model
 */
export function modelOfPath(request: FastifyRequest, path: string, fields: readonly string[], compat: Compat): string {
  if (compat !== 'djl') only([path, ...namedModels(request, fields).flat()], 'model_name');
  return path;
}

/** What each place of {@link modelOfRequest} says, in their order. */
function namedModels(request: FastifyRequest, fields: readonly string[]): string[][] {
  const one = (name: string | undefined) => (name === undefined ? [] : [name]);
  return [
    queryValues(request, 'model_name'),
    one(header(request, 'model_name')),
    one(customAttribute(header(request, CUSTOM_ATTRIBUTES), 'model_name')),
    fields,
  ].map((names) => names.filter((name) => name !== ''));
}

/**
 * Query `model_name`, header, custom attribute, form field, the only model or workflow of the start, Target-Model; in this order.
 * @param fields values of a form's `model_name`
 * @throws AppError INVALID_REQUEST where two places differ, or none is named and several were served from the start,
 * MODEL_NOT_FOUND where none is
 */
export function modelOfRequest(
  services: Services,
  request: FastifyRequest,
  fields: readonly string[],
  compat: Compat,
): string {
  return modelNamed(services, request, fields, compat) ?? modelUnnamed(services);
}

/**
 * The model of a request that names none.
 * @throws AppError INVALID_REQUEST where several were served from the start, MODEL_NOT_FOUND where none is
 */
export function modelUnnamed(services: Services): string {
  const usual = services.models.defaultName();
  if (usual !== undefined) return usual;
  const names = servedNames(services);
  if (names.length === 0)
    throw new AppError('MODEL_NOT_FOUND', 'no model is served now; GET /models tells of those that are not ready');
  throw new AppError('INVALID_REQUEST', `say with ?model_name= which model answers (${names.join(', ')})`, {
    violations: [{ field: 'model_name', description: 'is needed where several models are served' }],
  });
}

/**
 * The model that a request names somewhere else than in its path; undefined = in no place that counts.
 * @throws AppError INVALID_REQUEST where two places differ
 */
export function modelNamed(
  services: Services,
  request: FastifyRequest,
  fields: readonly string[],
  compat: Compat,
): string | undefined {
  const places = namedModels(request, fields);
  const [first] = places.filter((names) => names.length > 0);
  // The first place decides with the original.
  const named = only(compat === 'djl' ? (first ?? []) : places.flat(), 'model_name');
  // With one model Target-Model can mean no other: platforms put the archive's name there, whatever the model is called.
  // The original leaves that header to the platform in front of it.
  if (named !== undefined || compat === 'djl' || services.models.defaultName() !== undefined) return named;
  return header(request, 'x-amzn-sagemaker-target-model')?.replace(/\.tar\.gz$/, '') || undefined;
}

/**
 * The model or workflow that the field `model` of a body names, where several are served; undefined = none. The name of an
 * adapter of the model that answers else stays that.
 * @param body reads it
 */
export async function modelOfField(
  services: Services,
  body: (() => Body | undefined) | undefined,
): Promise<string | undefined> {
  const names = servedNames(services);
  if (names.length < 2) return undefined;
  const field = modelFieldOf(body?.());
  if (field === undefined || !names.includes(field)) return undefined;
  const usual = services.models.defaultName();
  return usual === undefined || !(await isAdapter(services, usual, field)) ? field : undefined;
}

/** Names of the models and workflows that are served, each once. */
export function servedNames({ models, workflows }: Services): string[] {
  const served = workflows.list().filter(({ error }) => error === undefined);
  return [...new Set([...models.list(), ...served].map(({ name }) => name))];
}

/**
 * The version that a request asks for: of its path, else the query, header or custom attribute `model_version`.
 * @throws AppError INVALID_REQUEST where two of them differ
 */
export function versionOfRequest(request: FastifyRequest, path: string | undefined): string | undefined {
  const given = [
    path,
    ...queryValues(request, 'model_version'),
    header(request, 'model_version'),
    customAttribute(header(request, CUSTOM_ATTRIBUTES), 'model_version'),
  ].filter((version) => version !== undefined && version !== '');
  return only(given as string[], 'model_version');
}

/** The name that a version of a workflow is found by; models have none, so that no model has such a name. */
export function withVersion(name: string, version: string | undefined): string {
  return version === undefined ? name : `${name}/${version}`;
}
