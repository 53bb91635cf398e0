/** Turns `--model [NAME=]DIR` or `[NAME=]FILE.gguf` into a model to load, looking at what lies in the folder but not yet into the weights. */
import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { ConfigError } from './config-error.js';
import { adapterAsModel, type MergeSource, parseMerge } from './merge.js';
import type { ServingEnvironment } from './serving-env.js';
import { readServingProperties, type ServingProperties } from './serving-properties.js';
import type { SettingValues } from './settings.js';

/** A model that is to be served. All paths are absolute. */
export interface ModelSource {
  readonly name: string;
  /** Folder with config.json and the weights, or a GGUF file. */
  readonly path: string;
  /** Folder that was named, or that the named file lies in; `path` differs where a serving.properties points elsewhere. */
  readonly folder: string;
  readonly dtype: SettingValues['dtype'];
  readonly loraEnabled: boolean;
  /** Adapters to merge into the weights; then no others are taken. */
  readonly merge: readonly MergeSource[];
  /** Folders whose sub-folders are adapters to register at start; all exist. */
  readonly adapterFolders: readonly string[];
  /** The custom handler that answers for the model; absent = none. */
  readonly handler?: HandlerSource | undefined;
  readonly limits: ModelLimits;
  /** Remarks for the log, one line each. */
  readonly warnings: readonly string[];
}

/** Limits of one model that win over the server's settings; absent = the server's. */
export interface ModelLimits {
  /** Rows of a step. */
  readonly maxBatch?: number | undefined;
  /** Rows that may wait. */
  readonly maxQueue?: number | undefined;
  /** Greatest rank of an adapter; absent = any. */
  readonly maxLoraRank?: number | undefined;
  /** False: nothing is kept for prompts with the same beginning. */
  readonly prefixCaching?: boolean | undefined;
}

/** A custom handler, as serving.properties names it. */
export interface HandlerSource {
  /** The module, absolute. */
  readonly entryPoint: string;
  /** Every key of serving.properties. */
  readonly properties: Readonly<Record<string, string>>;
  /** True: the folder holds no model, the handler is all there is. */
  readonly alone: boolean;
  /** `option.predict_timeout`, in milliseconds. */
  readonly callMs?: number | undefined;
}

/** What of the settings a model's folder is read with. */
export interface ModelSettings extends Pick<SettingValues, 'dtype' | 'adapters' | 'merge'> {
  readonly environment: ServingEnvironment;
}

/** Names that fit into a path and a header unescaped. */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const isFolder = (place: string): boolean => statSync(place, { throwIfNoEntry: false })?.isDirectory() ?? false;
const isGgufFile = (place: string): boolean =>
  /\.gguf$/i.test(place) && (statSync(place, { throwIfNoEntry: false })?.isFile() ?? false);

function splitName(given: string): { name: string | undefined; folder: string } {
  const at = given.indexOf('=');
  // A path may hold a "=", a name may hold no "/": so `a/b=c` is all path, and `m=a/b=c` is the name m.
  if (at <= 0 || /[\\/]/.test(given.slice(0, at))) return { name: undefined, folder: given };
  return { name: given.slice(0, at), folder: given.slice(at + 1) };
}

/**
 * @param given value of `--model`
 * @param settings the other settings; `--dtype` other than auto and `--adapters` win over the properties file
 * @param cwd what relative paths are relative to
 * @param servedAs the model's name, where `given` is only a path; it is not checked
 * @throws ConfigError when there is no such folder or no model in it
 */
export function resolveModelFolder(
  given: string,
  settings: ModelSettings,
  cwd: string,
  servedAs?: string,
): ModelSource {
  const { name, folder: relative } = servedAs === undefined ? splitName(given) : { name: servedAs, folder: given };
  if (relative === '') throw new ConfigError(`--model ${given}: no folder after the "="`);
  const place = path.resolve(cwd, relative);
  const isFile = isGgufFile(place);
  if (!isFile && !isFolder(place)) throw new ConfigError(`--model ${given}: there is no folder or .gguf file ${place}`);
  const folder = isFile ? path.dirname(place) : place;
  const properties = propertiesOf(folder, isFile, settings.environment);
  const { modelId, warnings } = modelOf(properties, place, isFile);
  if (modelId !== undefined && /^[a-z][a-z0-9+.-]+:\/\//i.test(modelId)) {
    throw new ConfigError(`${modelIdAt(folder, properties)}: only folders are served, not ${modelId}`);
  }
  const named = modelId === undefined ? place : path.resolve(folder, modelId);
  const adapter = isFolder(named) ? adapterAsModel(named) : undefined;
  const weights = adapter?.base ?? named;
  if (!isFolder(weights) && !isGgufFile(weights)) {
    throw new ConfigError(`${modelIdAt(folder, properties)} names no folder or .gguf file: ${weights}`);
  }
  const noModel = isFolder(weights) && !existsSync(path.join(weights, 'config.json'));
  const handler = handlerOf(folder, properties, noModel && modelId === undefined);
  if (noModel && !handler?.alone) {
    throw new ConfigError(`--model ${given}: there is no model in ${weights} (config.json is missing)`);
  }
  const chosen = name ?? path.basename(place).replace(/\.gguf$/i, '');
  if (servedAs === undefined && !MODEL_NAME.test(chosen)) {
    throw new ConfigError(
      `--model ${given}: "${chosen}" is no usable model name (letters, digits, ".", "_", "-"); name it with NAME=PATH`,
    );
  }
  const weightsFolder = isGgufFile(weights) ? path.dirname(weights) : weights;
  const folders = adapterFolders(folder, weightsFolder, properties, settings.adapters, cwd);
  const asked = settings.merge ?? properties.merge;
  const origin = settings.merge === undefined ? 'option.merge' : '--merge';
  const merge = [
    ...(adapter === undefined ? [] : [adapter.merge]),
    ...(asked === undefined ? [] : parseMerge(asked, origin, folders, cwd)),
  ];
  if (handler?.alone && merge.length > 0) {
    throw new ConfigError(`${origin} ${asked}: ${folder} holds no model to merge into, only a handler`);
  }
  const loraEnabled = (properties.enableLora ?? true) && merge.length === 0;
  return {
    name: chosen,
    path: weights,
    folder,
    dtype: settings.dtype === 'auto' ? (properties.dtype ?? 'auto') : settings.dtype,
    loraEnabled,
    merge,
    adapterFolders: loraEnabled ? folders : [],
    ...(handler && { handler }),
    limits: limitsOf(properties),
    warnings,
  };
}

/** Which model a folder leads to: that of the file, or of the environment where there is none in the folder. */
function modelOf(
  { modelId, environmentModel, warnings }: ServingProperties,
  place: string,
  isFile: boolean,
): { readonly modelId?: string | undefined; readonly warnings: readonly string[] } {
  if (environmentModel === undefined) return { modelId, warnings };
  const there = isFile || ['config.json', 'adapter_config.json'].some((file) => existsSync(path.join(place, file)));
  if (!there) return { modelId: environmentModel.modelId, warnings };
  return { warnings: [...warnings, `${environmentModel.variable} is ignored: there is a model in ${place}`] };
}

/** Where `option.model_id` stands, for messages. */
function modelIdAt(folder: string, { environmentModel }: ServingProperties): string {
  return environmentModel?.variable ?? `${path.join(folder, 'serving.properties')}: option.model_id`;
}

function limitsOf({ maxBatch, maxQueue, maxLoraRank, prefixCaching }: ServingProperties): ModelLimits {
  return { maxBatch, maxQueue, maxLoraRank, prefixCaching };
}

/** @param alone true where there are no weights, neither in the folder nor elsewhere */
function handlerOf(folder: string, properties: ServingProperties, alone: boolean): HandlerSource | undefined {
  const { entryPoint, predictTimeoutS, all } = properties;
  if (entryPoint === undefined) return undefined;
  const file = path.join(folder, 'serving.properties');
  const module = path.resolve(folder, entryPoint);
  // Links are followed: what lies outside by a link is outside.
  if (!existsSync(module)) throw new ConfigError(`${file}: option.entryPoint names no file: ${module}`);
  const inside = path.relative(realpathSync(folder), realpathSync(module));
  if (inside.startsWith('..') || path.isAbsolute(inside)) {
    throw new ConfigError(`${file}: option.entryPoint must lie inside the folder, not at ${module}`);
  }
  return {
    entryPoint: module,
    properties: all,
    alone,
    ...(predictTimeoutS !== undefined && { callMs: predictTimeoutS * 1000 }),
  };
}

/** What the folder's file and the environment ask for; a file that is named itself has no folder of its own. */
function propertiesOf(folder: string, isFile: boolean, environment: ServingEnvironment): ServingProperties {
  const file = path.join(folder, 'serving.properties');
  const there = !isFile && existsSync(file);
  return readServingProperties(there ? readFileSync(file, 'utf8') : undefined, file, environment);
}

function adapterFolders(
  folder: string,
  weights: string,
  properties: ServingProperties,
  flag: string | undefined,
  cwd: string,
): string[] {
  if (flag !== undefined) {
    const named = path.resolve(cwd, flag);
    if (!isFolder(named)) throw new ConfigError(`--adapters ${flag}: there is no folder ${named}`);
    return [named];
  }
  if (properties.adapters !== undefined) {
    const named = path.resolve(folder, properties.adapters);
    if (!isFolder(named)) {
      throw new ConfigError(`${path.join(folder, 'serving.properties')}: option.adapters names no folder: ${named}`);
    }
    return [named];
  }
  const candidates = [...new Set([path.join(folder, 'adapters'), path.join(weights, 'adapters')])];
  return candidates.filter(isFolder);
}
