/** What an engine is opened with, of the configuration, the model's folder and the call that registers it. */
import { join } from 'node:path';
import type { ModelSource } from '../config/model-folder.js';
import type { FoundModel } from '../config/open-model.js';
import type { ServeConfig } from '../config/serve-config.js';
import { DTYPES } from '../config/settings.js';
import { AppError } from '../errors.js';
import type { ModelOverrides } from '../service/management.js';
import type { OpenedModel } from '../service/model-description.js';

/**
 * @param overrides what the call says otherwise
 * @param found how a model came here that is registered by its url
 * @throws AppError INVALID_REQUEST for an unknown dtype
 */
export function openedModel(
  config: ServeConfig,
  source: ModelSource,
  overrides: ModelOverrides,
  found?: FoundModel,
): OpenedModel {
  const { folder, adapterFolders, warnings, handler, limits } = source;
  const options = { ...optionsOf(config, source), ...overridden(overrides) };
  const { maxLoraRank } = limits;
  return {
    ...{ options, adapterFolders, warnings, maxLoraRank },
    ...(found !== undefined && { origin: found.origin, snapshot: found.snapshot, release: found.release }),
    ...(handler && { handler: { ...handler, folder } }),
  };
}

function optionsOf(config: ServeConfig, { name, path, dtype, loraEnabled, merge, limits }: ModelSource) {
  return {
    ...{ name, path, dtype, loraEnabled, merge },
    deviceAdapterBytes: config.deviceAdapterBytes,
    deviceFloats: config.deviceFloats,
    deviceKv: config.deviceKv,
    threads: config.threads || undefined,
    engines: config.engines,
    maxBatch: limits.maxBatch ?? config.maxBatch,
    maxQueue: limits.maxQueue ?? config.maxQueue,
    prefillChunk: config.prefillChunk,
    lookupTokens: config.lookupTokens,
    kvBytes: config.kvBytes,
    stepTimeoutMs: config.stepTimeout * 1000,
    cacheDir: config.weightCache === 'on' ? join(config.sources.cacheDir, 'converted') : undefined,
    prefixCacheBytes: limits.prefixCaching === false ? 0 : config.prefixCacheBytes,
  };
}

/** What is not read with the folder already, as `loraEnabled` is: merging and adapters depend on that. */
function overridden({ dtype, maxBatch, maxQueue }: ModelOverrides) {
  const known = DTYPES.find((one) => one === dtype);
  if (dtype !== undefined && known === undefined) {
    const description = `must be one of ${DTYPES.join(', ')}, not ${JSON.stringify(dtype)}`;
    throw new AppError('INVALID_REQUEST', `dtype ${description}`, { violations: [{ field: 'dtype', description }] });
  }
  return {
    ...(known !== undefined && { dtype: known }),
    ...(maxBatch !== undefined && { maxBatch }),
    ...(maxQueue !== undefined && { maxQueue }),
  };
}
