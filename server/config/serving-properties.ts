/** `serving.properties` of DJL Serving: its keys, what the environment says for them, and a remark for what has no effect. */
import { Properties } from 'properties-file/parser';
import { nearNames } from '../adapters/adapter-names.js';
import { ConfigError } from './config-error.js';
import { IGNORED_KEYS, KEY_NAMES } from './ignored-keys.js';
import type { ServingEnvironment } from './serving-env.js';
import {
  type EffectiveKey,
  HALF_TYPES,
  INT8_WAYS,
  SERVING_KEYS,
  type ServingKeyName,
  type ServingValues,
} from './serving-keys.js';

/** What is asked for a model. */
export interface ServingProperties
  extends Omit<
    ServingValues,
    'engine' | 'dtype' | 'quantize' | 'maxRollingBatch' | 'batchSize' | 'queueSize' | 'modelId'
  > {
  /** `option.model_id` as written in the file: a folder, absolute or relative to the file, or a remote source. */
  readonly modelId?: string | undefined;
  /** The same from the environment, and the variable. */
  readonly environmentModel?: { readonly modelId: string; readonly variable: string } | undefined;
  /** Where it is one that is served. */
  readonly dtype?: 'auto' | 'fp32' | 'int8' | undefined;
  /** Rows of a step. */
  readonly maxBatch?: number | undefined;
  /** Rows that may wait. */
  readonly maxQueue?: number | undefined;
  /** Where each key that counts stands, in the file or the environment, for messages. */
  readonly names: Readonly<Partial<Record<ServingKeyName, string>>>;
  /** Every key with its value, for the handler. */
  readonly all: Readonly<Record<string, string>>;
  /** One line for each key that has no effect; each says where the key stands. */
  readonly warnings: readonly string[];
}

/** A key with its value, and where it was found. */
interface Given {
  readonly value: string;
  /** For messages: the file and the key, or the variable, with the value. */
  readonly where: string;
  /** The same without the value. */
  readonly name: string;
  readonly variable?: string;
}

/**
 * Reads the keys of a model.
 * @param source text of the file; undefined = there is none
 * @param file its path, for messages
 * @param environment what counts where the file does not have a key
 * @throws ConfigError that names the file or variable, the key, the value, and what would be right
 */
export function readServingProperties(
  source: string | undefined,
  file: string,
  environment: ServingEnvironment,
): ServingProperties {
  const warnings: string[] = [];
  const given = givenKeys(source, file, environment, warnings);
  const values: ServingValues = {};
  const places = new Map<ServingKeyName, Given>();
  for (const [name, key] of Object.entries(SERVING_KEYS) as [ServingKeyName, EffectiveKey<unknown>][]) {
    const [found, ...others] = [key.key, ...(key.aliases ?? [])].flatMap((one) => given.get(one) ?? []);
    for (const other of others) warnings.push(`${other.name} is ignored: ${key.key} is there, too`);
    if (found === undefined) continue;
    const value = key.value.read(found.value);
    if (value === undefined) throw new ConfigError(`${found.where}: must be ${key.value.expects}`);
    Object.assign(values, { [name]: value });
    places.set(name, found);
  }
  warnings.push(...ignoredRemarks(given));
  const { engine, dtype, quantize, maxRollingBatch, batchSize, queueSize, modelId, entryPoint, ...rest } = values;
  const at = (name: ServingKeyName): Given => places.get(name)!;
  if (engine !== undefined && !/^(python|loramux)$/i.test(engine)) {
    warnings.push(`${at('engine').where} is ignored: loramux runs every model`);
  }
  const module = entryPoint === undefined ? undefined : moduleOf(entryPoint, at('entryPoint'), warnings);
  warnings.push(...unknownRemarks(given, module !== undefined));
  if (values.predictTimeoutS !== undefined && module === undefined) {
    warnings.push(`${at('predictTimeoutS').name} is ignored: it is the time of a custom handler, and there is none`);
  }
  return {
    ...rest,
    ...(modelId !== undefined && modelPlace(modelId, at('modelId').variable)),
    ...(module !== undefined && { entryPoint: module }),
    dtype: dtypeOf(values, at, warnings),
    maxBatch: maxRollingBatch ?? (batchSize === 1 ? undefined : batchSize),
    maxQueue: queueSize,
    names: Object.fromEntries([...places].map(([key, { name }]) => [key, name])),
    all: Object.fromEntries([...given].map(([key, { value }]) => [key, value])),
    warnings,
  };
}

function modelPlace(
  modelId: string,
  variable: string | undefined,
): Pick<ServingProperties, 'modelId' | 'environmentModel'> {
  return variable === undefined ? { modelId } : { environmentModel: { modelId, variable } };
}

/** All keys that the file or, where it lacks one, the environment has. */
function givenKeys(
  source: string | undefined,
  file: string,
  { defaults }: ServingEnvironment,
  warnings: string[],
): Map<string, Given> {
  const given = new Map<string, Given>();
  // Every key of UTF-16 would be one that is not known, and the model would be served as if there were none.
  if (source?.includes('\0')) throw new ConfigError(`${file}: is no UTF-8 text; save it as UTF-8, not as UTF-16`);
  try {
    const properties = new Properties(source ?? '');
    for (const [key, raw] of Object.entries(properties.toObject())) {
      const value = raw.trim();
      given.set(key, { value, where: `${file}: ${key}=${value}`, name: `${file}: ${key}` });
    }
    // As the original reads such a file: no fault, but rarely meant.
    for (const { key, nodes } of properties.getKeyCollisions()) {
      const lines = nodes.map(({ startingLineNumber }) => startingLineNumber).join(', ');
      warnings.push(`${given.get(key)?.where} counts, as the last of the lines ${lines}, which all give this key`);
    }
  } catch (error) {
    throw new ConfigError(`${file}: ${(error as Error).message}`, { cause: error });
  }
  for (const { key, value, variable } of defaults) {
    if (sameKey(key).some((one) => given.has(one))) continue;
    given.set(key, { value, where: `${variable}=${value}`, name: variable, variable });
  }
  return given;
}

/** A key and its other names. */
function sameKey(key: string): readonly string[] {
  const all = Object.values(SERVING_KEYS).map(({ key, aliases = [] }: EffectiveKey<unknown>) => [key, ...aliases]);
  return all.find((names) => names.includes(key)) ?? [key];
}

function ignoredRemarks(given: ReadonlyMap<string, Given>): string[] {
  return IGNORED_KEYS.flatMap(({ keys, value, silent = [], why }) =>
    keys.flatMap((key) => {
      const found = given.get(key);
      if (found === undefined) return [];
      if (value.read(found.value) === undefined) throw new ConfigError(`${found.where}: must be ${value.expects}`);
      return silent.includes(found.value.toLowerCase())
        ? []
        : [`${found.where} is ignored: ${why.replaceAll('`', '')}`];
    }),
  );
}

/** A custom handler may have options of its own: those are remarked on only where they look like a slip. */
function unknownRemarks(given: ReadonlyMap<string, Given>, hasHandler: boolean): string[] {
  const remarks: string[] = [];
  for (const [key, { name }] of given) {
    if (KEY_NAMES.includes(key)) continue;
    const near = nearKeys(key);
    const handed = hasHandler && key.startsWith('option.');
    if (handed && near.length === 0) continue;
    const what = handed ? 'is unknown: only the handler sees it' : 'is ignored: there is no such key';
    remarks.push(`${name} ${what}${near.length === 0 ? '' : `; near names: ${near.join(', ')}`}`);
  }
  return remarks;
}

/** Known keys that were probably meant; what nearly all begin with does not make them alike. */
function nearKeys(key: string): string[] {
  const bare = (name: string) => name.replace(/^option\./, '');
  const near = nearNames(bare(key), new Set(KEY_NAMES.map(bare)));
  return near.map((name) => KEY_NAMES.find((known) => bare(known) === name)!);
}

/** The module of a custom handler; undefined for the original's own, whose work the server does itself. */
function moduleOf(entryPoint: string, { where }: Given, warnings: string[]): string | undefined {
  if (/\.(ts|mts|js|mjs)$/.test(entryPoint)) return entryPoint;
  if (!/^djl_python\.[\w.]+$/.test(entryPoint)) {
    throw new ConfigError(`${where}: must be a .ts, .js or .mjs file inside the folder`);
  }
  warnings.push(`${where} is ignored: the server answers itself`);
  return undefined;
}

function dtypeOf(
  { dtype, quantize }: ServingValues,
  at: (name: ServingKeyName) => Given,
  warnings: string[],
): ServingProperties['dtype'] {
  if (quantize !== undefined) {
    if (INT8_WAYS.some((way) => way === quantize.toLowerCase())) return 'int8';
    const kinds = INT8_WAYS.join(', ');
    warnings.push(`${at('quantize').where} is ignored: weights are served as they are or as int8 (${kinds})`);
  }
  if (dtype === undefined || dtype === 'auto' || dtype === 'int8') return dtype;
  if (!HALF_TYPES.some((half) => half === dtype)) return 'fp32';
  warnings.push(`${at('dtype').where} is not served: auto is used`);
  return 'auto';
}
