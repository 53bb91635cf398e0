/** Settings from flags and environment variables: a flag wins, and a wrong value is told with the name that it came by. */
import path from 'node:path';
import { ConfigError, oneLine } from './config-error.js';
import { isServiceLink } from './foreign-variables.js';
import { splitValues } from './setting.js';
import { SETTING_ENTRIES, SETTINGS, type SettingValues } from './settings.js';

/** Texts of flags, by the keys of their settings. */
export type Flags = Readonly<Record<string, string | string[] | undefined>>;

/** Environment variables. */
export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * The values of all settings.
 * @throws ConfigError
 */
export function readSettings(flags: Flags, env: Environment): SettingValues {
  const raw: Record<string, string | string[]> = {};
  const given = (name: string) => (env[name] ?? '') !== '' && !isServiceLink(name, env[name]!);
  const origin = new Map<string, string>();
  for (const entry of SETTING_ENTRIES) {
    const flag = flags[entry.key];
    const variable = [entry.env, ...(entry.variables ?? [])].find(given);
    if (flag !== undefined) {
      raw[entry.key] = flag;
      origin.set(entry.key, entry.flag);
    } else if (variable !== undefined) {
      const value = env[variable]!;
      raw[entry.key] = entry.repeatable ? splitValues(value, entry.separator ?? path.delimiter) : value;
      origin.set(entry.key, variable);
    }
  }
  const parsed = SETTINGS.safeParse(raw);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const key = String(issue.path[0]);
  throw new ConfigError(`${origin.get(key) ?? key} ${String(raw[key])}: ${oneLine(issue.message)}`);
}
