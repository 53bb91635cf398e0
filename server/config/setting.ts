/** Kinds of settings: each turns the text of a flag or variable into a value, with a message that says what is right. */
import { z } from 'zod';

/** What the flag, the help and the documentation need to know beside the value's type. */
export interface SettingMeta {
  /** Placeholder of the value in the usage line, for example `DIR`. */
  readonly value: string;
  readonly description: string;
  /** Text of the default; absent = unset. */
  readonly default?: string | undefined;
  /** What "unset" means, for the table. */
  readonly unset?: string | undefined;
  /** True: may be given several times; the environment variable separates values as PATH does. */
  readonly repeatable?: boolean | undefined;
  /** What separates values in the environment variable instead. */
  readonly separator?: string | undefined;
  /** Further environment variables, as DJL Serving has them; read after the setting's own. */
  readonly variables?: readonly string[] | undefined;
}

/** A URL with its port and whatever stands before it, or anything else up to the next colon. */
const URL_OR_PATH = /(?:[^:=/]*=)?[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?(?:\[[^\]]*\]|[^/?#:]*)(?::\d+)?[^:]*|[^:]+/gi;

/** The values in a variable of a repeatable setting. The colons of a URL separate nothing, though PATH has them for that. */
export function splitValues(variable: string, separator: string): string[] {
  return separator === ':' ? (variable.match(URL_OR_PATH) ?? []) : variable.split(separator).filter(Boolean);
}

const described = <T extends z.ZodType>(schema: T, meta: SettingMeta): T => schema.meta({ setting: meta });

/** Any text. */
export function text(meta: SettingMeta & { default: string }) {
  return described(z.string().min(1, 'must not be empty').prefault(meta.default), meta);
}

/** Any text, or unset. */
export function optionalText(meta: SettingMeta) {
  return described(z.string().min(1, 'must not be empty').optional(), meta);
}

/** Origins of pages separated by commas, or `*`; unset = none. */
export function origins(meta: SettingMeta) {
  const schema = z.string().superRefine((given, context) => {
    for (const origin of given.split(',').map((one) => one.trim())) {
      // As browsers send them: in lower case, and for a page without an origin "null".
      if (/^(|\*|null|[a-z][a-z0-9+.-]*:\/\/[^/?#@\sA-Z*]+)$/.test(origin)) continue;
      context.addIssue(
        `"${origin}" is no origin, such as https://app.example or http://localhost:5173, without a path; "*" stands alone for any`,
      );
    }
  });
  return described(schema.optional(), meta);
}

/** Any number of texts. */
export function texts(meta: SettingMeta) {
  return described(z.array(z.string().min(1, 'must not be empty')).prefault([]), { ...meta, repeatable: true });
}

/** One of a few words. */
export function choice<const W extends readonly [string, ...string[]]>(
  words: W,
  meta: SettingMeta & { default: W[number] },
) {
  const schema = z.enum(words, { error: `must be one of ${words.join(', ')}` }).prefault(meta.default as never);
  return described(schema, meta);
}

/** A whole number in a range, both ends included. */
export function integer(min: number, max: number, meta: SettingMeta & { default: string }) {
  const schema = z
    .string()
    .regex(/^\d+$/, `must be a whole number between ${min} and ${max}`)
    .transform(Number)
    .pipe(z.number().min(min, `must be at least ${min}`).max(max, `must be at most ${max}`))
    .prefault(meta.default);
  return described(schema, meta);
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  m: 1e6,
  g: 1e9,
  ki: 1024,
  mi: 1024 ** 2,
  gi: 1024 ** 3,
};

/** A number of bytes: plain, or with a unit such as `64MiB` or `2GB`. */
export function bytes(min: number, meta: SettingMeta & { default: string }) {
  const schema = z
    .string()
    .transform((given, context) => {
      const match = /^(\d+(?:\.\d+)?)\s*(?:([kmg]i?)b?|b)?$/i.exec(given.trim());
      const count = match ? Math.floor(Number(match[1]) * UNITS[(match[2] ?? '').toLowerCase()]!) : Number.NaN;
      if (Number.isSafeInteger(count) && count >= min) return count;
      context.addIssue(`must be a number of bytes of at least ${min}, such as 65536, 64MiB or 2GB`);
      return z.NEVER;
    })
    .prefault(meta.default);
  return described(schema, meta);
}
