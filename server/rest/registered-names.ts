/** Whether what a request names is registered, where that has to be known before the adapters are leased. */
import { AppError } from '../errors.js';
import type { ModelInfo, Services } from '../service/types.js';

/** Whether the model has an adapter, or an alias, of that name. */
export async function isAdapter(services: Services, model: string, name: string): Promise<boolean> {
  const isThere = (found: Promise<unknown>) =>
    found.then(
      () => true,
      () => false,
    );
  return (
    (await isThere(services.adapters.get({ model, name }))) || isThere(services.adapters.getAlias({ model, name }))
  );
}

/** The original looks up `?adapter=` before anything else, whether it decides or not. */
export async function requireRegistered(services: Services, model: string, names: readonly string[]): Promise<void> {
  for (const name of names) {
    if (name === '' || (await isAdapter(services, model, name))) continue;
    throw new AppError('ADAPTER_NOT_REGISTERED', `adapter ${JSON.stringify(name)} is not registered`, {
      metadata: { adapter: name },
    });
  }
}

/**
 * For a field `model` that is no adapter's name, in a request that names an adapter nowhere else: a misspelt or unregistered
 * one must not be answered by the base model.
 * @param field the field; the model's own name, the name of a workflow's model, and '' name no adapter
 * @throws ADAPTER_NOT_REGISTERED
 */
export async function refuseOtherModel(services: Services, model: ModelInfo, field: string): Promise<void> {
  const owner = model.answeredBy ?? model.name;
  if (field === '' || field === model.name || field === owner || model.answeredWith !== undefined) return;
  const near = await services.adapters.get({ model: owner, name: field }).then(
    () => undefined,
    (thrown: unknown) => AppError.from(thrown).metadata.near,
  );
  const hint = near === undefined ? '' : `; near names: ${near}`;
  const is = `is ${JSON.stringify(field)}, which is neither the model ${JSON.stringify(owner)} nor an adapter of it${hint}`;
  throw new AppError('ADAPTER_NOT_REGISTERED', `the field model ${is}`, {
    metadata: { adapter: field, model: owner, ...(near !== undefined && { near }) },
    violations: [{ field: 'model', description: is }],
  });
}
