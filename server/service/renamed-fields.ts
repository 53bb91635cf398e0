/** Fields of a request by the names that its caller wrote: each surface, and each form of body, has its own. */
import { AppError } from '../errors.js';

/**
 * The same error with its fields renamed, in the message too; what tells of no field stays as it is.
 * @param rename a path of the service's request, such as `inputs[0].adapters[1].name`, to the caller's
 */
export function renameFields(thrown: unknown, rename: (field: string) => string): unknown {
  if (!(thrown instanceof AppError) || thrown.violations.length === 0) return thrown;
  const { reason, message, metadata, violations, retryAfterMs } = thrown;
  const [{ field }] = violations as [(typeof violations)[number]];
  const renamed = (text: string, from: string) =>
    text.startsWith(from) ? rename(from) + text.slice(from.length) : text;
  return new AppError(reason, renamed(message, field), {
    metadata,
    violations: violations.map((one) => ({
      field: rename(one.field),
      description: renamed(one.description, one.field),
    })),
    ...(retryAfterMs !== undefined && { retryAfterMs }),
    cause: thrown,
  });
}
