/** Turns `--model [NAME=]DIR` or `[NAME=]FILE.gguf` into a model to load, looking at what lies in the folder but not yet into the weights. */
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { isBelow, realPathOf } from '../adapters/real-path.js';
import { isRemoteUri, redactSource } from '../sources/source.js';
import { adapterFolders } from './adapter-folders.js';
import { ConfigError, NothingThere } from './config-error.js';
import { adapterAsModel, type MergeSource, parseMerge, requireDistinct } from './merge.js';
import {
  type HandlerSource,
  handlerOf,
  limitsOf,
  type ModelLimits,
  modelIdAt,
  modelOf,
  propertiesOf,
} from './model-properties.js';
import { isFolder, requireReadable } from './readable-folder.js';
import type { ServingEnvironment } from './serving-env.js';
import type { ServingProperties } from './serving-properties.js';
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

/** What of the settings a model's folder is read with. */
export interface ModelSettings extends Pick<SettingValues, 'dtype' | 'adapters' | 'merge'> {
  readonly environment: ServingEnvironment;
  /** What a registration says instead of `option.enable_lora`. */
  readonly loraEnabled?: boolean | undefined;
}

/** What was fetched of a model. */
export interface FetchedModel {
  /** The weights that `option.model_id` names, where they are remote. */
  readonly weights?: string | undefined;
  /** Folders that everything must lie below, as the folder itself was fetched or others may write to it; absent = anywhere. */
  readonly within?: readonly string[] | undefined;
}

/** Names that fit into a path and a header unescaped. */
const MODEL_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const isGgufFile = (place: string): boolean =>
  /\.gguf$/i.test(place) && (statSync(place, { throwIfNoEntry: false })?.isFile() ?? false);

/** True for a name that fits into a path and a header. */
export const isUsableModelName = (name: string): boolean => MODEL_NAME.test(name);

/** Splits `[NAME=]PLACE`. */
export function splitModelName(given: string): { name: string | undefined; folder: string } {
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
 * @param fetched what was remote and is here now
 * @throws ConfigError when there is no such folder or no model in it
 */
export function resolveModelFolder(
  given: string,
  settings: ModelSettings,
  cwd: string,
  servedAs?: string,
  { weights: fetched, within }: FetchedModel = {},
): ModelSource {
  const { name, folder: relative } = servedAs === undefined ? splitModelName(given) : { name: servedAs, folder: given };
  if (relative === '') throw new ConfigError(`--model ${given}: no folder after the "="`);
  const place = path.resolve(cwd, relative);
  const isFile = isGgufFile(place);
  if (!isFile && !isFolder(place))
    throw new NothingThere(`--model ${given}: there is no folder or .gguf file ${place}`);
  const folder = isFile ? path.dirname(place) : place;
  const properties = propertiesOf(folder, isFile, settings.environment);
  const { modelId, warnings } = modelOf(properties, place, isFile);
  if (fetched === undefined && modelId !== undefined && isRemoteUri(modelId)) {
    const where = modelIdAt(folder, properties);
    throw new ConfigError(`${where}: ${redactSource(modelId)} is elsewhere; here it must be a folder`);
  }
  const named = fetched ?? (modelId === undefined ? place : path.resolve(folder, modelId));
  requireWithin(named, within, () => modelIdAt(folder, properties));
  const adapter = isFolder(named) ? adapterAsModel(named) : undefined;
  const weights = adapter?.base ?? named;
  requireWithin(weights, within, () => `${named}: the base of the adapter`);
  if (!isFolder(weights) && !isGgufFile(weights)) {
    throw new ConfigError(`${modelIdAt(folder, properties)} names no folder or .gguf file: ${weights}`);
  }
  const noModel = isFolder(weights) && !existsSync(path.join(weights, 'config.json'));
  const handler = handlerOf(folder, properties, noModel && modelId === undefined);
  if (noModel && !handler?.alone) {
    requireReadable(weights, `--model ${given}`);
    const missing = (where: string) => `there is no model in ${where} (config.json is missing)`;
    if (weights === place) throw new NothingThere(`--model ${given}: ${missing('it')}`);
    throw new NothingThere(
      `${modelId === undefined ? `--model ${given}` : modelIdAt(folder, properties)}: ${missing(weights)}`,
    );
  }
  const chosen = name ?? path.basename(place).replace(/\.gguf$/i, '');
  if (servedAs === undefined && !MODEL_NAME.test(chosen)) {
    throw new ConfigError(
      `--model ${given}: "${chosen}" is no usable model name (letters, digits, ".", "_", "-"); name it with NAME=PATH`,
    );
  }
  const weightsFolder = isGgufFile(weights) ? path.dirname(weights) : weights;
  const { adapters: adaptersAt = 'option.adapters', merge: mergeAt = 'option.merge' } = properties.names;
  const folders = adapterFolders(folder, weightsFolder, properties.adapters, adaptersAt, settings.adapters, cwd);
  if (settings.adapters === undefined) for (const one of folders) requireWithin(one, within, () => adaptersAt);
  const asked = settings.merge ?? properties.merge;
  const origin = settings.merge === undefined ? mergeAt : '--merge';
  const merging = settings.merge === undefined ? `${origin}=${asked}` : `${origin} ${asked}`;
  const merge = [
    ...(adapter === undefined ? [] : [adapter.merge]),
    ...(asked === undefined ? [] : parseMerge(asked, merging, folders, cwd)),
  ];
  if (adapter !== undefined) requireDistinct(merge, `${merging} on ${named}, which is an adapter itself`);
  if (settings.merge === undefined) for (const one of merge) requireWithin(one.folder, within, () => origin);
  if (handler?.alone && merge.length > 0) {
    throw new ConfigError(`${merging}: ${folder} holds no model to merge into, only a handler`);
  }
  const wanted = settings.loraEnabled ?? properties.enableLora;
  if (wanted === false && merge.length > 0) {
    const what = asked === undefined ? `${named} is an adapter` : merging;
    throw new ConfigError(`${what}: it cannot be merged, as option.enable_lora=false serves the base only`);
  }
  const loraEnabled = (wanted ?? true) && merge.length === 0;
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
    warnings: [
      ...warnings,
      ...revisionRemark(properties, fetched),
      ...(wanted === false ? adaptersRemark(properties, settings) : []),
    ],
  };
}

/** What a folder names that is not the operator's must lie where models may come from, links followed. */
function requireWithin(place: string, within: readonly string[] | undefined, where: () => string): void {
  const target = realPathOf(place);
  if (within === undefined || within.some((root) => isBelow(target, realPathOf(root)))) return;
  throw new ConfigError(
    `${where()} must name a folder of the model itself, or one that models may be registered from, as the model is not ` +
      "the operator's own",
  );
}

/** Adapters beside a model may belong to whatever serves it elsewhere; a folder that is named was meant for this one. */
function adaptersRemark({ adapters }: ServingProperties, settings: ModelSettings): string[] {
  const named =
    settings.adapters === undefined ? adapters && `option.adapters=${adapters}` : `--adapters ${settings.adapters}`;
  return named === undefined ? [] : [`${named} is ignored: option.enable_lora=false serves the base only`];
}

function revisionRemark({ revision, modelId }: ServingProperties, fetched: string | undefined): string[] {
  const ofHub = fetched !== undefined && modelId !== undefined && !/^(s3|https?):/i.test(modelId);
  return revision === undefined || ofHub ? [] : [`option.revision=${revision} is ignored: it is for the id of a hub`];
}
