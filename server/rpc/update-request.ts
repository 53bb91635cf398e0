import type { UpdateAdapterRequest as UpdateAdapterMessage } from '../../gen/loramux/v1/adapters_pb.js';
import { AppError } from '../errors.js';
import type { UpdateAdapterRequest } from '../service/types.js';

/** Fields that update_mask may name. */
const FIELDS = ['source', 'digest', 'preload', 'pin', 'options'] as const;
type Field = (typeof FIELDS)[number];

function refuse(description: string): AppError {
  return new AppError('INVALID_REQUEST', `update_mask ${description}`, {
    violations: [{ field: 'update_mask', description }],
  });
}

/**
 * What an UpdateAdapter message asks for. Without update_mask that is what is set, and options are set one by one; with
 * it, what it names: a field that is not set gets its default, and options become exactly those given.
 * @throws AppError INVALID_REQUEST for a mask that does not fit the message
 */
export function updateRequest(message: UpdateAdapterMessage): UpdateAdapterRequest {
  const { model, name, source, digest, preload, pin, options, updateMask, expectedDigest } = message;
  const asked = {
    ...(model !== '' && { model }),
    name,
    ...(expectedDigest !== '' && { expectedDigest }),
  };
  if (updateMask === undefined) return { ...asked, source, digest, preload, pin, mergeOptions: options };
  const unknown = updateMask.paths.filter((path) => !FIELDS.some((field) => field === path));
  if (unknown.length > 0) throw refuse(`names ${unknown.join(', ')}; it may name ${FIELDS.join(', ')}`);
  const named = (field: Field): boolean => updateMask.paths.includes(field);
  const values = { source, digest, preload, pin };
  for (const field of FIELDS) {
    const set = field === 'options' ? Object.keys(options).length > 0 : values[field] !== undefined;
    if (set && !named(field)) throw refuse(`does not name ${field}, which is set`);
  }
  for (const field of ['source', 'digest'] as const) {
    if (named(field) && values[field] === undefined)
      throw refuse(`names ${field}, which is not set and has no default`);
  }
  return {
    ...asked,
    source,
    digest,
    ...(named('preload') && { preload: preload ?? true }),
    ...(named('pin') && { pin: pin ?? false }),
    ...(named('options') && { options }),
  };
}
