/**
 * Fields that look like the place of an adapter and are not. JavaScript lets them pass, and TypeScript does in an object
 * that has a name of its own; passed over they would be answered by another adapter, or the base model.
 */
import { looksLikeAdapter } from './adapter-names.js';

function misplaced(value: object, isMisplaced: (key: string) => boolean): string | undefined {
  return Object.entries(value).find(([key, one]) => one !== undefined && isMisplaced(key))?.[0];
}

/**
 * For a request and its inputs, where `adapter` is the right name.
 * @throws TypeError for a field that looks like the place of an adapter
 */
export function refuseOtherNames(value: object, what: string): void {
  const name = misplaced(value, (key) => key !== 'adapter' && looksLikeAdapter(key));
  if (name !== undefined) throw new TypeError(`${what} has no field ${name}; adapter names its adapter`);
}

/**
 * For what has no place for an adapter, under any name.
 * @throws TypeError for a field that looks like one
 */
export function refuseAdapters(value: object, what: string): void {
  const name = misplaced(value, looksLikeAdapter);
  if (name === undefined) return;
  throw new TypeError(`${what} have no field ${name}; adapter of a request or an input names its adapter`);
}
