/** Whether a request goes to the handler that an adapter brings. Read before the body has to be one of the known dialects. */
import { AppError } from '../errors.js';
import type { HandlerService } from '../service/handler-types.js';
import type { ModelInfo } from '../service/types.js';
import { type AdapterPlaces, inOrder } from './adapter-places.js';
import { isObject } from './body.js';
import type { Compat } from './compat.js';
import { invalidField } from './fields.js';
import { sameName } from './selection.js';

/** An adapter as a request names it; '' = the base model. */
interface Named {
  readonly name: string;
  readonly weight: number;
}

/**
 * The adapter whose handler answers; undefined = the server answers itself, and judges what the request names.
 * @throws AppError CONFLICTING_ADAPTERS where such an adapter is not the only one that the request names; INVALID_REQUEST
 * where it has a weight
 */
export async function handledAdapter(
  handlers: HandlerService | undefined,
  model: ModelInfo,
  places: AdapterPlaces,
  compat: Compat,
): Promise<string | undefined> {
  if (handlers === undefined || !handlers.takesAdapters) return undefined;
  const answering = model.answeredBy ?? model.name;
  const given = inOrder(places).flatMap((one) =>
    ('name' in one ? [whole(one.name)] : namesIn(one.field)).map((named) => ({ place: one.place, ...named })),
  );
  if (model.answeredWith !== undefined) given.push({ place: 'the workflow', ...whole(model.answeredWith) });
  const named = compat === 'djl' ? given.filter(({ place }) => place === given[0]!.place) : given;
  for (const { name } of named) {
    const adapter = name === '' ? undefined : await handlers.adapterOf(answering, name);
    if (adapter === undefined) continue;
    const other = named.find((one) => !sameName(one.name, name));
    if (other !== undefined) {
      const what = other.name === '' ? 'the base model' : JSON.stringify(other.name);
      throw new AppError(
        'CONFLICTING_ADAPTERS',
        `adapter ${JSON.stringify(name)} brings a handler, which answers requests that name it alone; this one also asks for ${what}`,
        { metadata: { adapter: name, other: other.name } },
      );
    }
    if (named.some(({ weight }) => weight !== 1)) {
      throw invalidField('adapters', `must not give ${JSON.stringify(name)} a weight: it brings a handler`);
    }
    return adapter;
  }
  return undefined;
}

const whole = (name: string): Named => ({ name, weight: 1 });

/** Names in a field `adapters`: a text, null, or lists and weighted objects of them; anything else is not read here. */
function namesIn(value: unknown): Named[] {
  if (value === null) return [whole('')];
  if (typeof value === 'string') return [whole(value)];
  if (Array.isArray(value)) return value.length === 0 ? [whole('')] : value.flatMap(namesIn);
  if (!isObject(value) || typeof value.name !== 'string') return [];
  return [{ name: value.name, weight: typeof value.weight === 'number' ? value.weight : 1 }];
}
