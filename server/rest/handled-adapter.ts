/** Whether a request goes to the handler that an adapter brings. Read before the body has to be one of the known dialects. */
import type { FastifyRequest } from 'fastify';
import { AppError } from '../errors.js';
import type { HandlerService } from '../service/handler-types.js';
import type { ModelInfo } from '../service/types.js';
import { isObject } from './body.js';
import type { Compat } from './compat.js';
import { fieldTexts, readBody } from './content.js';
import { invalidField } from './fields.js';
import type { FormField } from './form.js';
import { CUSTOM_ATTRIBUTES, header, queryValues } from './headers.js';
import { customAttribute } from './selection.js';

/** An adapter as a request names it; '' = the base model. */
interface Named {
  readonly name: string;
  readonly weight: number;
}

/**
 * The adapter whose handler answers; undefined = the server answers itself, and judges what the request names.
 * @param isAdapter true for a registered adapter of the model
 * @throws AppError CONFLICTING_ADAPTERS where such an adapter is not the only one that the request names; INVALID_REQUEST
 * where it has a weight
 */
export async function handledAdapter(
  handlers: HandlerService | undefined,
  model: ModelInfo,
  request: FastifyRequest,
  fields: readonly FormField[] | undefined,
  compat: Compat,
  isAdapter: (name: string) => Promise<boolean>,
): Promise<string | undefined> {
  if (handlers === undefined || !handlers.takesAdapters) return undefined;
  const answering = model.answeredBy ?? model.name;
  const places = await placesOf(request, fields, model, isAdapter);
  const named = (compat === 'djl' ? places.slice(0, 1) : places).flat();
  for (const { name } of named) {
    const adapter = name === '' ? undefined : await handlers.adapterOf(answering, name);
    if (adapter === undefined) continue;
    const other = named.find((one) => one.name !== name);
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

/** What the places name that name anything, in the order of mode `djl`. */
async function placesOf(
  request: FastifyRequest,
  fields: readonly FormField[] | undefined,
  model: ModelInfo,
  isAdapter: (name: string) => Promise<boolean>,
): Promise<readonly (readonly Named[])[]> {
  const body = bodyOf(request, fields);
  const attribute = customAttribute(header(request, CUSTOM_ATTRIBUTES), 'adapter');
  const identifier = header(request, 'x-amzn-sagemaker-adapter-identifier');
  const field = typeof body?.model === 'string' && body.model !== model.name ? body.model : '';
  return [
    identifier === undefined ? [] : [whole(identifier)],
    namesIn(body?.adapters),
    [...queryValues(request, 'adapter'), ...fieldTexts(fields, 'adapter')].map(whole),
    attribute === undefined ? [] : [whole(attribute)],
    field !== '' && (await isAdapter(field)) ? [whole(field)] : [],
    model.answeredWith === undefined ? [] : [whole(model.answeredWith)],
  ].filter((names) => names.length > 0);
}

const whole = (name: string): Named => ({ name, weight: 1 });

/** The body as far as it is an object of JSON; whoever answers tells what is wrong with any other. */
function bodyOf(
  request: FastifyRequest,
  fields: readonly FormField[] | undefined,
): Record<string, unknown> | undefined {
  try {
    const body = readBody(request, fields);
    return body.kind === 'json' && isObject(body.value) ? body.value : undefined;
  } catch {
    return undefined;
  }
}

/** Names in a field `adapters`: a text, null, or lists and weighted objects of them; anything else is not read here. */
function namesIn(value: unknown): Named[] {
  if (value === undefined) return [];
  if (value === null) return [whole('')];
  if (typeof value === 'string') return [whole(value)];
  if (Array.isArray(value)) return value.length === 0 ? [whole('')] : value.flatMap(namesIn);
  if (!isObject(value) || typeof value.name !== 'string') return [];
  return [{ name: value.name, weight: typeof value.weight === 'number' ? value.weight : 1 }];
}
