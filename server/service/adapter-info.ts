/** What is told about a registered adapter. */
import { type AdapterEntry, digestOf } from '../adapters/adapter-entry.js';
import { redactSource } from '../sources/source.js';
import { versionsOf } from './adapter-records.js';
import type { AdapterInfo } from './types.js';

/** A module in the folder of an adapter. */
export interface ModuleInfo {
  readonly file: string;
  /** Why it is not run; undefined = it is. */
  readonly refusal: string | undefined;
}

/**
 * @param bytes what the engine holds of it; 0 = nothing
 * @param versions true: with all that it was
 * @param module undefined = there is none, or nobody has looked
 */
export function adapterInfo(
  entry: AdapterEntry,
  bytes: number,
  loading: boolean,
  versions: boolean,
  module?: ModuleInfo,
): AdapterInfo {
  const { summary } = entry;
  let state: AdapterInfo['state'] = 'registered';
  if (entry.error !== undefined) state = 'failed';
  else if (loading) state = 'loading';
  else if (bytes > 0) state = 'ready';
  return {
    model: entry.model,
    name: entry.name,
    digest: digestOf(entry),
    source: redactSource(entry.source),
    preload: entry.preload,
    pin: entry.pin,
    options: entry.options,
    state,
    error: entry.error,
    ranks: summary?.ranks ?? [],
    scalings: summary?.scalings ?? [],
    targetModules: summary?.targetModules ?? [],
    bytes,
    features: summary?.features ?? [],
    warnings: [
      ...(summary?.warnings ?? []),
      ...(module?.refusal === undefined ? [] : [`${module.file} in its folder is not run: ${module.refusal}`]),
    ],
    ...(module && { handler: { file: module.file, runs: module.refusal === undefined } }),
    runningRows: entry.usage.runningRows,
    createdAt: entry.createdAt,
    updatedAt: entry.updatedAt,
    loadedAt: entry.loadedAt,
    lastUsedAt: entry.usage.lastUsedAt,
    progress: state === 'loading' ? entry.progress : undefined,
    revision: entry.revision,
    ...(versions ? { versions: versionsOf(entry).map(told) } : {}),
  };
}

const told = ({ digest, source, createdAt }: AdapterEntry['versions'][number]) => ({
  digest,
  source: redactSource(source),
  createdAt,
});
