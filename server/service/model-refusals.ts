/** What callers are told of models that are not there, not ready, or not theirs to register or to remove. */
import { nearNames } from '../adapters/adapter-names.js';
import { AppError } from '../errors.js';
import type { AskedAs } from './management.js';
import type { RegisteredModel } from './registered-model.js';

/** With a ":" too, which names of workflows' own models have. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,255}$/;

/** Throws INVALID_REQUEST for a name that no model can have. */
export function requireModelName(name: string): void {
  if (NAME.test(name)) return;
  const description = `${JSON.stringify(name)} is no usable name: letters, digits, ".", "_", "-"`;
  throw new AppError('INVALID_REQUEST', `model_name ${description}`, {
    violations: [{ field: 'model_name', description }],
  });
}

/** What is said of a model that takes no adapters. */
export const WITHOUT_LORA = 'is served without LoRA (option.enable_lora=false, or adapters that are merged)';

/** MODEL_EXISTS */
export function modelExists(name: string): AppError {
  return new AppError('MODEL_EXISTS', `a model or workflow ${JSON.stringify(name)} is registered already`, {
    metadata: { model: name },
  });
}

const NOT_FOUND = { model: 'MODEL_NOT_FOUND', workflow: 'WORKFLOW_NOT_FOUND' } as const;

/** MODEL_NOT_FOUND, or WORKFLOW_NOT_FOUND where that was asked for, with the names that are near. */
export function modelNotFound(name: string, known: Iterable<string>, asked: AskedAs = 'model'): AppError {
  const near = nearNames(name, known);
  const hint = near.length > 0 ? `; near names: ${near.join(', ')}` : '';
  const quoted = JSON.stringify(name);
  const what = asked === 'model' ? `model ${quoted} is not` : `no workflow or model ${quoted} is`;
  return new AppError(NOT_FOUND[asked], `${what} registered${hint}`, {
    metadata: { [asked]: name, ...(near.length > 0 && { near: near.join(',') }) },
  });
}

/** The same of a version that a model was asked for: only workflows have some. */
export function modelHasNoVersion(name: string, version: string, asked: AskedAs = 'model'): AppError {
  return new AppError(NOT_FOUND[asked], `model ${name} has no version ${version}; leave the version out`, {
    metadata: { [asked]: name, version },
  });
}

/** MODEL_NOT_FOUND, of a model that was there when the request came. */
export function modelGone(model: string): AppError {
  return new AppError('MODEL_NOT_FOUND', `model ${JSON.stringify(model)} was unregistered meanwhile`, {
    metadata: { model },
  });
}

/** MODEL_NOT_READY, with why. */
export function modelNotReady({ name, state, error }: RegisteredModel): AppError {
  const what = state === 'failed' ? `failed to load: ${error}` : 'is still loading';
  return new AppError('MODEL_NOT_READY', `model ${JSON.stringify(name)} ${what}`, {
    metadata: { model: name, state },
    ...(state === 'loading' && { retryAfterMs: 1000 }),
  });
}

/** MODEL_IN_USE, with the workflows. */
export function modelInUse({ name, workflows }: RegisteredModel): AppError {
  const users = [...workflows].sort().join(', ');
  return new AppError('MODEL_IN_USE', `model ${JSON.stringify(name)} is used by workflows: ${users}`, {
    metadata: { model: name, workflows: users },
  });
}
