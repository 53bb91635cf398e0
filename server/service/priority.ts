/** Priorities as requests spell them. */
import { AppError } from '../errors.js';

/** Header of a request that says how urgent it is. */
export const PRIORITY_HEADER = 'x-priority';

/** Bounds of priorities; 0 is that of requests that name none. */
const PRIORITIES = { lowest: -100, highest: 100 } as const;

/** The header's value. Throws INVALID_REQUEST for anything but a whole number within {@link PRIORITIES}. */
export function readPriority(text: string | undefined | null): number | undefined {
  if (text === undefined || text === null) return undefined;
  const value = /^[+-]?\d{1,4}$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (value >= PRIORITIES.lowest && value <= PRIORITIES.highest) return value;
  const need = `must be a whole number from ${PRIORITIES.lowest} to ${PRIORITIES.highest}`;
  throw new AppError('INVALID_REQUEST', `header ${PRIORITY_HEADER} ${need}, but is ${JSON.stringify(text)}`);
}
