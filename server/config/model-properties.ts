/** What the keys of a model's folder and of the environment come to: which model, which limits, which handler. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { isBelow, realPathOf } from '../adapters/real-path.js';
import { readRegularSync } from '../regular-file.js';
import { ConfigError } from './config-error.js';
import type { ServingEnvironment } from './serving-env.js';
import { readServingProperties, type ServingProperties } from './serving-properties.js';

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

/** Which model a folder leads to: that of the file, or of the environment where there is none in the folder. */
export function modelOf(
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
export function modelIdAt(folder: string, { environmentModel }: ServingProperties): string {
  return environmentModel?.variable ?? `${path.join(folder, 'serving.properties')}: option.model_id`;
}

/** Limits that the keys set. */
export function limitsOf({ maxBatch, maxQueue, maxLoraRank, prefixCaching }: ServingProperties): ModelLimits {
  return { maxBatch, maxQueue, maxLoraRank, prefixCaching };
}

/**
 * The custom handler of a folder; undefined = none.
 * @param alone true where there are no weights, neither in the folder nor elsewhere
 * @throws ConfigError where its module is not there, or outside of the folder
 */
export function handlerOf(folder: string, properties: ServingProperties, alone: boolean): HandlerSource | undefined {
  const { entryPoint, predictTimeoutS, all } = properties;
  if (entryPoint === undefined) return undefined;
  const where = properties.names.entryPoint;
  const module = path.resolve(folder, entryPoint);
  // Links are followed: what lies outside by a link is outside.
  if (!existsSync(module)) throw new ConfigError(`${where} names no file: ${module}`);
  if (!isBelow(realPathOf(module), realPathOf(folder))) {
    throw new ConfigError(`${where} must lie inside the folder, not at ${module}`);
  }
  return {
    entryPoint: module,
    properties: all,
    alone,
    ...(predictTimeoutS !== undefined && { callMs: predictTimeoutS * 1000 }),
  };
}

/** What the folder's file and the environment ask for; a file that is named itself has no folder of its own. */
export function propertiesOf(folder: string, isFile: boolean, environment: ServingEnvironment): ServingProperties {
  const file = path.join(folder, 'serving.properties');
  const there = !isFile && existsSync(file);
  return readServingProperties(there ? readRegularSync(file).toString() : undefined, file, environment);
}
