/** Places that name adapters on the HTTP/JSON routes, and are none in a remote call. */
import type { HandlerContext } from '@connectrpc/connect';
import { AppError } from '../errors.js';
import { CUSTOM_ATTRIBUTES, customAttributes, looksLikeAdapter, otherAttributes } from '../service/adapter-names.js';

/**
 * Refuses a call whose headers or query name an adapter: only its message is read, so that the base model, or another
 * adapter, would answer in silence.
 * @throws AppError INVALID_REQUEST
 */
export function refuseOtherPlaces({ requestHeader, url }: HandlerContext): void {
  const attributes = requestHeader.get(CUSTOM_ATTRIBUTES) ?? undefined;
  const places: readonly [where: string, names: readonly string[]][] = [
    ['the headers', [...requestHeader.keys()]],
    ['the custom attributes', [...customAttributes(attributes).map(([name]) => name), ...otherAttributes(attributes)]],
    ['the query', [...new URL(url).searchParams.keys()]],
  ];
  for (const [where, names] of places) {
    const field = names.find(looksLikeAdapter);
    if (field === undefined) continue;
    const description = `is no place for an adapter in ${where} of a remote call; its message names it`;
    throw new AppError('INVALID_REQUEST', `${field} ${description}`, { violations: [{ field, description }] });
  }
}
