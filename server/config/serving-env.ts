/** Keys of a `serving.properties` that come from the environment, as DJL Serving's containers take them. */
import { IGNORED_KEYS, KEY_NAMES } from './ignored-keys.js';
import { SERVING_KEYS } from './serving-keys.js';
import { SETTING_ENTRIES, type SettingKey } from './settings.js';

/** The environment's value of a key; it counts where the file of a model does not have the key. */
export interface ServingDefault {
  readonly key: string;
  readonly value: string;
  readonly variable: string;
}

/** What the environment says for all models. */
export interface ServingEnvironment {
  readonly defaults: readonly ServingDefault[];
  /** Remarks for the log: variables that mean nothing here. */
  readonly remarks: readonly string[];
}

/** No variables at all. */
export const NO_SERVING_ENVIRONMENT: ServingEnvironment = { defaults: [], remarks: [] };

/** Variables for keys of models that have names of their own. */
const NAMED = new Map<string, string>([
  ...Object.values(SERVING_KEYS).flatMap(({ key, variables = [] }: { key: string; variables?: readonly string[] }) =>
    variables.map((name) => [name, key] as const),
  ),
  ...IGNORED_KEYS.flatMap(({ variables = {} }) => Object.entries(variables)),
]);

/** Variables that are settings of the server. */
const OF_SERVER = new Map<string, SettingKey>(
  SETTING_ENTRIES.flatMap(({ key, variables = [] }) => variables.map((name) => [name, key] as const)),
);

/** Names without what variables cannot show: letter case, dots and underscores. */
const plain = (name: string): string => name.replaceAll(/[._]/g, '').toLowerCase();

/**
 * Reads `OPTION_X` as `option.x`, `SERVING_X` as `x`, then the variables with names of their own; the first that has a
 * key wins. Unknown options are kept, as a custom handler may know them.
 */
export function servingEnvironment(env: Readonly<Record<string, string | undefined>>): ServingEnvironment {
  const found = new Map<string, ServingDefault>();
  const remarks: string[] = [];
  const take = (key: string, variable: string) => {
    if (!found.has(key)) found.set(key, { key, value: env[variable]!.trim(), variable });
  };
  const given = Object.keys(env)
    .filter((name) => (env[name] ?? '').trim() !== '')
    .sort();
  const known = (prefix: string, rest: string) =>
    KEY_NAMES.find((key) => key.startsWith('option.') === (prefix !== '') && plain(key) === plain(prefix + rest));
  for (const variable of given) {
    const rest = /^OPTION_(.+)$/.exec(variable)?.[1];
    if (rest !== undefined) take(known('option.', rest) ?? `option.${rest.toLowerCase()}`, variable);
  }
  for (const variable of given) {
    const rest = /^SERVING_(.+)$/.exec(variable)?.[1];
    if (rest === undefined || OF_SERVER.has(variable)) continue;
    const key = known('', rest);
    if (key === undefined) remarks.push(`${variable} is ignored: there is no such key`);
    else take(key, variable);
  }
  for (const variable of given) {
    const key = NAMED.get(variable);
    if (key !== undefined) take(key, variable);
  }
  return { defaults: [...found.values()], remarks };
}
