/** The flags of a bench command: their names, kinds and defaults in one place. */
import { parseArgs } from 'node:util';

/** A flag without a default, for a text. */
export const TEXT = Symbol('text');

/** What a flag has where it is not given, which also tells its kind. `false`: it takes no value, and is there or not. */
type Default = typeof TEXT | string | number | readonly number[] | false;

type ValueOf<D extends Default> = D extends typeof TEXT
  ? string | undefined
  : D extends string
    ? string
    : D extends number
      ? number
      : D extends false
        ? boolean
        : readonly number[];

/** A flag that is not known or has no number; the message says what there is. */
export class FlagError extends Error {}

/** The values of flags. */
export type Flags<F extends Readonly<Record<string, Default>>> = { readonly [K in keyof F]: ValueOf<F[K]> };

/**
 * Reads the arguments behind a command's name.
 * @param defaults flags by name; several numbers are given with commas between them
 * @throws FlagError naming the flag where one is not known or has no number
 */
export function readFlags<const F extends Readonly<Record<string, Default>>>(args: string[], defaults: F): Flags<F> {
  const options = Object.fromEntries(
    Object.entries(defaults).map(([name, value]) => [
      name,
      { type: value === false ? ('boolean' as const) : ('string' as const) },
    ]),
  );
  const { values } = parsed(args, options, defaults);
  const flags = Object.entries(defaults).map(([name, value]) => {
    const given = values[name];
    if (given === undefined) return [name, value === TEXT ? undefined : value];
    if (typeof value === 'number') return [name, numberOf(name, given as string)];
    if (Array.isArray(value)) return [name, (given as string).split(',').map((part) => numberOf(name, part))];
    return [name, given];
  });
  return Object.fromEntries(flags) as Flags<F>;
}

function parsed(
  args: string[],
  options: Record<string, { type: 'boolean' | 'string' }>,
  defaults: Readonly<Record<string, Default>>,
) {
  try {
    return parseArgs({ args, options });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    const lines = Object.entries(defaults).map(([name, value]) => `  --${name}${shown(value)}`);
    throw new FlagError(
      [`${error.message.split('.')[0]}. The flags, with what they are where not given:`, ...lines].join('\n'),
    );
  }
}

/** What a line of help tells of a flag's value. */
function shown(value: Default): string {
  if (value === false) return '';
  return value === TEXT ? ' TEXT' : ` ${value}`;
}

function numberOf(name: string, text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (Number.isNaN(value)) throw new FlagError(`--${name} must be a number, not ${JSON.stringify(text)}`);
  return value;
}

/** The flags of these names that were given, as the server's command line takes them. */
export function passedOn(values: Readonly<Record<string, unknown>>, ...names: readonly string[]): string[] {
  return names.flatMap((name) => (values[name] === undefined ? [] : [`--${name}`, String(values[name])]));
}
