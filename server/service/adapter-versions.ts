/** Versions of an adapter by their digests, or the first digits of those. */
import { type AdapterEntry, digestOf } from '../adapters/adapter-entry.js';
import { AppError } from '../errors.js';
import { versionsOf } from './adapter-records.js';

/** Fewest digits of a digest that may stand for it. */
const MIN_DIGITS = 8;

const DIGITS = new RegExp(`^[0-9a-f]{${MIN_DIGITS},64}$`, 'i');

/** What to add to a refusal where the digest that was given can be none: to read the right one again would not help. */
function isNone(given: string): string {
  if (DIGITS.test(given)) return '';
  return `; a digest is 64 hexadecimal digits, of which the first ${MIN_DIGITS} or more are enough`;
}

/** The whole digest of a version of an entry. Throws VERSION_NOT_FOUND, INVALID_REQUEST. */
export function versionOf(entry: AdapterEntry, digest: string): string {
  const known = versionsOf(entry).filter((one) => sameDigest(one.digest, digest));
  if (known.length > 1) {
    const description = `${digest} are the first digits of several versions; give more of them`;
    throw new AppError('INVALID_REQUEST', description, { violations: [{ field: 'digest', description }] });
  }
  if (known[0] === undefined) throw noVersion(entry, digest);
  return known[0].digest;
}

/** True if `given` is the digest, or its first 8 or more digits. */
function sameDigest(digest: string, given: string): boolean {
  return given.length >= MIN_DIGITS && digest.startsWith(given.toLowerCase());
}

/** VERSION_NOT_FOUND, with the last ones that there were. */
export function noVersion(entry: AdapterEntry, digest: string): AppError {
  const versions = versionsOf(entry);
  const shown = versions.slice(-5).map((one) => one.digest.slice(0, 16));
  const had = versions.length === 0 ? 'none is known' : `it had ${shown.join(', ')}`;
  return new AppError(
    'VERSION_NOT_FOUND',
    `adapter ${JSON.stringify(entry.name)} never had the version ${JSON.stringify(digest)}; ${had}${isNone(digest)}`,
    { metadata: { adapter: entry.name, model: entry.model } },
  );
}

/** Throws VERSION_CONFLICT unless the entry has the digest that the request expects. */
export function checkExpected(entry: AdapterEntry, expected: string | undefined): void {
  if (expected === undefined || expected === '') return;
  const digest = digestOf(entry);
  if (sameDigest(digest, expected)) return;
  throw new AppError(
    'VERSION_CONFLICT',
    `adapter ${JSON.stringify(entry.name)} has the digest ${digest === '' ? 'that nobody has read yet' : digest}, ` +
      `not ${expected}${isNone(expected)}`,
    { metadata: { adapter: entry.name, model: entry.model, digest, expected } },
  );
}
