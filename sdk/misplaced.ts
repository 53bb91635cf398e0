/**
 * Fields that look like the place of an adapter where none is read. JavaScript lets them pass, and TypeScript does in an
 * object that has a name of its own; passed over they would be answered by another adapter, or the base model.
 */
import { looksLikeAdapter } from './adapter-names.js';

/**
 * For what has no place for an adapter, under any name.
 * @throws TypeError for a field that looks like one, and for what is no object: it may be meant as an adapter's name
 */
export function refuseAdapters(value: object, what: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new TypeError(`${what} must be an object; adapter of a request or an input names its adapter`);
  const found = Object.entries(value).find(([key, one]) => one !== undefined && looksLikeAdapter(key));
  if (found === undefined) return;
  throw new TypeError(`${what} have no field ${found[0]}; adapter of a request or an input names its adapter`);
}
