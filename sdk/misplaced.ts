/**
 * How HTTP bodies, other servers and slips name adapters. JavaScript lets them pass, and TypeScript does in an object that
 * has a name of its own; passed over they would be answered by another adapter, or the base model. The names that the
 * server refuses in HTTP bodies (server/service/adapter-names.ts), but for `adapter`, which is the right one in some places.
 */
const MISPLACED = new Set([
  ...['adapters', 'adapterid', 'adaptername', 'adapterids', 'adapternames', 'adapterparameters'],
  ...['lora', 'loras', 'loraid', 'loraname', 'lorapath', 'lorarequest', 'loraadapter', 'loraadapters'],
]);

function misplaced(value: object, isMisplaced: (key: string) => boolean): string | undefined {
  return Object.entries(value).find(([key, one]) => one !== undefined && isMisplaced(key))?.[0];
}

const isOtherName = (key: string): boolean => MISPLACED.has(key.toLowerCase().replace(/[_-]/g, ''));

/**
 * For a request and its inputs, where `adapter` is the right name.
 * @throws TypeError for a field that looks like the place of an adapter
 */
export function refuseOtherNames(value: object, what: string): void {
  const name = misplaced(value, isOtherName);
  if (name !== undefined) throw new TypeError(`${what} has no field ${name}; adapter names its adapter`);
}

/**
 * For what has no place for an adapter, under any name.
 * @throws TypeError for a field that looks like one
 */
export function refuseAdapters(value: object, what: string): void {
  const name = misplaced(value, (key) => key === 'adapter' || isOtherName(key));
  if (name === undefined) return;
  throw new TypeError(`${what} have no field ${name}; adapter of a request or an input names its adapter`);
}
