/** A workflow's definition: what its fields mean. Everything wrong with it is told with its place. */
import { isAbsolute, resolve } from 'node:path';
import { MAX_BATCH, MAX_QUEUE } from '../../batch-bounds.js';
import { isWeight, looksLikeAdapter } from '../adapter-names.js';
import type { ModelOverrides } from '../management.js';
import { BUILT_IN, compileCalls, type Plan } from './calls.js';
import { type Fail, type Fields, isObject, type Path, readDocument } from './document.js';

/** A model that a workflow uses. */
export interface ModelReference {
  readonly url: string;
  readonly overrides: ModelOverrides;
}

/** A function that a workflow brings. */
export interface FunctionReference {
  /** Absolute path of its module. */
  readonly module: string;
  /** What `configs` has under its name. */
  readonly properties: Readonly<Record<string, string>>;
}

/** An adapter that a workflow uses. */
export interface AdapterReference {
  /** Local name of its model. */
  readonly model: string;
  readonly source: string;
  readonly preload: boolean;
  readonly pin: boolean;
  readonly options: Readonly<Record<string, string>>;
}

/** A definition that makes sense as far as can be told without looking at the models. */
export interface WorkflowDefinition {
  readonly name: string;
  /** '' = none. */
  readonly version: string;
  readonly models: ReadonlyMap<string, ModelReference>;
  readonly adapters: ReadonlyMap<string, AdapterReference>;
  readonly functions: ReadonlyMap<string, FunctionReference>;
  /** What is called. */
  readonly plan: Plan;
  /** Fields that mean nothing here, with their places. */
  readonly warnings: readonly string[];
  /** The whole as JSON, with `{model_dir}` filled in and relative paths made absolute. */
  readonly json: string;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const KNOWN = ['name', 'version', 'models', 'functions', 'configs', 'workflow'];
/**
 * Reads a definition.
 * @param origin what messages call the definition: a file's path, or for example "the body"
 * @param dir the folder of the file, for `{model_dir}` and for paths that begin with "./"; absent = there is none
 * @throws AppError WORKFLOW_INVALID
 */
export function parseDefinition(text: string, origin: string, dir?: string): WorkflowDefinition {
  const { top, fail } = readDocument(text, origin, dir);
  const warnings: string[] = [];
  const ignore = (path: Path, what = 'is ignored') => {
    const key = String(path.at(-1));
    // `options.max_lora_rank` and its like are settings of the original's engines.
    const isAdapter = path.at(-2) === 'options' ? /adapter|^merge$/i.test(key) : looksLikeAdapter(key);
    if (isAdapter || isWeight(key)) {
      fail(
        path,
        'would choose what answers, and nothing reads it; adapters are named by configs.adapters and their calls',
      );
    }
    warnings.push(`${origin}: ${path.join('.')} ${what}`);
  };
  for (const key of Object.keys(top)) if (!KNOWN.includes(key)) ignore([key], 'is not known and is ignored');
  const name = nameAt(top.name, ['name'], fail);
  const version = versionAt(top.version, fail);
  const models = new Map<string, ModelReference>();
  fieldsAt(top.models, ['models'], fail, (local, value) => {
    nameAt(local, ['models', local], fail);
    models.set(local, modelAt(value, ['models', local], fail, ignore));
  });
  if (models.size === 0) fail(['models'], 'must name at least one model, such as {"m": "file:///models/demo"}');
  const adapters = new Map<string, AdapterReference>();
  const configs = (top.configs ?? {}) as Fields;
  const modules = new Map<string, string>();
  fieldsAt(top.functions ?? {}, ['functions'], fail, (local, value) => {
    nameAt(local, ['functions', local], fail);
    if (models.has(local)) fail(['functions', local], 'has the name of a model');
    if (local === 'adapters' || BUILT_IN.includes(local)) fail(['functions', local], 'has a name that is taken here');
    modules.set(local, moduleAt(value, ['functions', local], dir, fail));
  });
  const functions = new Map<string, FunctionReference>();
  for (const [local, module] of modules) {
    const given = configs[local] ?? {};
    const properties: [string, string][] = [];
    fieldsAt(given, ['configs', local], fail, (key, option) => {
      properties.push([key, typeof option === 'string' ? option : JSON.stringify(option)]);
    });
    functions.set(local, { module, properties: Object.fromEntries(properties) });
  }
  fieldsAt(configs, ['configs'], fail, (section) => {
    if (section !== 'adapters' && !functions.has(section)) ignore(['configs', section], 'is not known and is ignored');
  });
  fieldsAt(configs.adapters ?? {}, ['configs', 'adapters'], fail, (reference, value) => {
    adapters.set(reference, adapterAt(value, ['configs', 'adapters', reference], models, fail, ignore));
  });
  const steps = (top.workflow ?? {}) as Fields;
  fieldsAt(top.workflow, ['workflow'], fail, () => {});
  const plan = compileCalls(steps, {
    models: new Set(models.keys()),
    functions: new Set(functions.keys()),
    adapters: new Map([...adapters].map(([reference, { model }]) => [reference, model])),
    fail,
  });
  // What is kept has no folder that paths could start at.
  const json = JSON.stringify(functions.size === 0 ? top : { ...top, functions: Object.fromEntries(modules) });
  return { name, version, models, functions, adapters, plan, warnings, json };
}

function fieldsAt(value: unknown, path: Path, fail: Fail, each: (key: string, value: unknown) => void): void {
  if (!isObject(value)) fail(path, value === undefined ? 'is missing' : 'must be an object');
  for (const [key, entry] of Object.entries(value as Fields)) each(key, entry);
}

function nameAt(value: unknown, path: Path, fail: Fail): string {
  if (value === undefined) fail(path, 'is missing');
  if (typeof value !== 'string' || !NAME.test(value)) {
    fail(path, `${JSON.stringify(value)} is no usable name: letters, digits, ".", "_", "-", at most 128`);
  }
  return value as string;
}

function versionAt(value: unknown, fail: Fail): string {
  if (value === undefined || value === null || value === '') return '';
  // YAML reads an unquoted 0.1 as a number.
  const text = typeof value === 'number' ? String(value) : value;
  return nameAt(text, ['version'], fail);
}

function textAt(value: unknown, path: Path, fail: Fail): string {
  if (typeof value !== 'string' || value === '') fail(path, value === undefined ? 'is missing' : 'must be a text');
  return value as string;
}

function countAt(value: unknown, max: number, path: Path, fail: Fail): number | undefined {
  if (value === undefined || value === null) return undefined;
  const is = Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= max;
  if (!is) fail(path, `must be a whole number between 1 and ${max}`);
  return value as number;
}

/** Fields of a model that are used; the others belong to the original's worker pools and engines. */
const MODEL_FIELDS = ['modelUrl', 'batchSize', 'queueSize', 'options'];

function modelAt(value: unknown, path: Path, fail: Fail, ignore: (path: Path) => void): ModelReference {
  if (typeof value === 'string') return { url: textAt(value, path, fail), overrides: {} };
  if (!isObject(value)) return fail(path, 'must be a url, or an object with modelUrl');
  for (const key of Object.keys(value)) {
    if (!MODEL_FIELDS.includes(key) && value[key] !== null) ignore([...path, key]);
  }
  const options = (value.options ?? {}) as Fields;
  fieldsAt(options, [...path, 'options'], fail, (key) => {
    if (key !== 'dtype' && key !== 'enable_lora') ignore([...path, 'options', key]);
  });
  const { dtype, enable_lora: enableLora } = options;
  if (dtype !== undefined) textAt(dtype, [...path, 'options', 'dtype'], fail);
  if (enableLora !== undefined && !/^(true|false)$/i.test(String(enableLora))) {
    fail([...path, 'options', 'enable_lora'], 'must be true or false');
  }
  return {
    url: textAt(value.modelUrl, [...path, 'modelUrl'], fail),
    overrides: {
      dtype: dtype as string | undefined,
      loraEnabled: enableLora === undefined ? undefined : String(enableLora).toLowerCase() === 'true',
      maxBatch: countAt(value.batchSize, MAX_BATCH, [...path, 'batchSize'], fail),
      maxQueue: countAt(value.queueSize, MAX_QUEUE, [...path, 'queueSize'], fail),
    },
  };
}

/** Fields of an adapter that are used. */
const ADAPTER_FIELDS = ['model', 'src', 'options'];

/** The module of a function. */
function moduleAt(value: unknown, path: Path, dir: string | undefined, fail: Fail): string {
  const given = textAt(value, path, fail);
  if (!/\.(ts|mjs|js)$/.test(given)) {
    fail(path, `${JSON.stringify(given)} is no .ts, .mjs or .js file; classes of the Java server cannot run here`);
  }
  if (isAbsolute(given)) return resolve(given);
  if (dir === undefined) fail(path, 'must be an absolute path: the definition lies in no folder');
  return resolve(dir!, given);
}

function adapterAt(
  value: unknown,
  path: Path,
  models: ReadonlyMap<string, ModelReference>,
  fail: Fail,
  ignore: (path: Path) => void,
): AdapterReference {
  if (!isObject(value)) return fail(path, 'must be an object with model and src');
  for (const key of Object.keys(value)) if (!ADAPTER_FIELDS.includes(key)) ignore([...path, key]);
  const model = textAt(value.model, [...path, 'model'], fail);
  if (!models.has(model)) {
    fail([...path, 'model'], `there is no model ${JSON.stringify(model)} (models: ${[...models.keys()].join(', ')})`);
  }
  const { preload, pin, ...options } = (value.options ?? {}) as Record<string, unknown>;
  fieldsAt(value.options ?? {}, [...path, 'options'], fail, (key, option) => {
    if (!['string', 'number', 'boolean'].includes(typeof option)) {
      fail([...path, 'options', key], 'must be a text, a number or a boolean');
    }
    // Kept as an option it would change nothing, and the adapter be applied as a whole.
    if (isWeight(key)) ignore([...path, 'options', key]);
    // So would one of these in another spelling.
    const meant = ['pin', 'preload'].find((known) => known === key.toLowerCase() && known !== key);
    if (meant !== undefined) fail([...path, 'options', key], `is spelt ${meant}`);
  });
  const flag = (given: unknown, key: string, fallback: boolean): boolean => {
    if (given === undefined) return fallback;
    const lower = String(given).toLowerCase();
    if (lower !== 'true' && lower !== 'false') fail([...path, 'options', key], 'must be true or false');
    return lower === 'true';
  };
  return {
    model,
    source: textAt(value.src, [...path, 'src'], fail),
    preload: flag(preload, 'preload', true),
    pin: flag(pin, 'pin', false),
    options: Object.fromEntries(Object.entries(options).map(([key, option]) => [key, String(option)])),
  };
}
