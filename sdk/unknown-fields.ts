/** Fields that say nothing: a misspelt or empty condition of a change would be passed over, and the change made. */

/**
 * @param known names of all fields that there are
 * @param what the object in the message
 * @throws TypeError for another field, unless it is undefined, and for what is no object
 */
export function refuseOthers(value: object, known: readonly string[], what: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TypeError(`${what} must be an object`);
  const found = Object.entries(value).find(([name, one]) => one !== undefined && !known.includes(name));
  if (found !== undefined) throw new TypeError(`${what} has no field ${found[0]}; there are ${known.join(', ')}`);
}

/** @throws TypeError for an empty text, as an adapter has that was never read: nothing would be expected */
export function refuseEmpty(digest: string | undefined): void {
  if (digest === '') throw new TypeError('expectedDigest is empty; leave it out where nothing is expected');
}

/** @throws TypeError for what is no object of names and values: spread as one, a map would be empty, and a list numbered */
export function refuseNoRecord(value: object | undefined, what: string): void {
  if (value === undefined) return;
  if (typeof value !== 'object' || value === null || Symbol.iterator in value)
    throw new TypeError(`${what} must be an object of names and values`);
}
