/**
 * The places of a request that can name adapters, read once for all who judge them. DJL Serving knows four (contract:
 * header, body, query, custom attributes); the model field of its other dialects may name an adapter as well.
 */
import type { FastifyRequest } from 'fastify';
import { CUSTOM_ATTRIBUTES, IDENTIFIER_HEADER } from '../service/adapter-names.js';
import type { ModelInfo } from '../service/types.js';
import { type Body, isObject } from './body.js';
import { fieldTexts } from './content.js';
import type { FormField } from './form.js';
import { customAttribute, header, queryValues } from './headers.js';

/** Everything of one request that can name adapters; undefined = not there. */
export interface AdapterPlaces {
  /** Header `X-Amzn-SageMaker-Adapter-Identifier`. */
  readonly identifier: string | undefined;
  /** Field `adapters` of the body, as it came. */
  readonly body: unknown;
  /** Values of `?adapter=`, and of a form's field of that name. */
  readonly query: readonly string[];
  /** `adapter` of the header `X-Amzn-SageMaker-Custom-Attributes`. */
  readonly customAttribute: string | undefined;
  /** Field `model` of the body, where it names a registered adapter. */
  readonly modelField?: string | undefined;
}

/** A place that names something: one name for every input ('' = the base model), or what the field of the body holds. */
export type AdapterPlace = { readonly place: string } & ({ readonly name: string } | { readonly field: unknown });

/**
 * Reads the places of a request, and judges none.
 * @param body undefined where it cannot be read; whoever needs it tells why
 * @param isAdapter true for a registered adapter of the model, and for an alias
 */
export async function readPlaces(
  request: FastifyRequest,
  fields: readonly FormField[] | undefined,
  body: Body | undefined,
  model: Pick<ModelInfo, 'name'>,
  isAdapter: (name: string) => Promise<boolean>,
): Promise<AdapterPlaces> {
  const value = body?.kind === 'json' && isObject(body.value) ? body.value : undefined;
  const named = typeof value?.model === 'string' && value.model !== model.name ? value.model : undefined;
  return {
    identifier: header(request, IDENTIFIER_HEADER),
    body: value?.adapters,
    query: [...queryValues(request, 'adapter'), ...fieldTexts(fields, 'adapter')],
    customAttribute: customAttribute(header(request, CUSTOM_ATTRIBUTES), 'adapter'),
    modelField: named !== undefined && (await isAdapter(named)) ? named : undefined,
  };
}

/**
 * The places that name anything, in the order in which mode `djl` lets the first decide: that of its current handlers and
 * of the 2023 handler put together, which never contradict each other.
 */
export function inOrder({ identifier, body, query, customAttribute, modelField }: AdapterPlaces): AdapterPlace[] {
  const named = (place: string, name: string | undefined) => (name === undefined ? [] : [{ place, name }]);
  return [
    ...named('the Adapter-Identifier header', identifier),
    ...(body === undefined ? [] : [{ place: 'the body', field: body }]),
    ...query.map((name) => ({ place: '?adapter=', name })),
    ...named('the custom attributes', customAttribute),
    ...named('the field model', modelField),
  ];
}
