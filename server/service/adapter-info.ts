/** What is told about a registered adapter. */
import type { AdapterEntry } from '../adapters/registry.js';
import type { AdapterInfo } from './types.js';

/** @param bytes what the engine holds of it; 0 = nothing */
export function adapterInfo(entry: AdapterEntry, bytes: number, loading: boolean): AdapterInfo {
  const { summary } = entry;
  let state: AdapterInfo['state'] = 'registered';
  if (entry.error !== undefined) state = 'failed';
  else if (loading) state = 'loading';
  else if (bytes > 0) state = 'ready';
  return {
    model: entry.model,
    name: entry.name,
    digest: summary?.digest ?? '',
    source: entry.source,
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
    warnings: summary?.warnings ?? [],
    runningRows: entry.runningRows,
    createdAt: entry.createdAt,
    loadedAt: entry.loadedAt,
    lastUsedAt: entry.lastUsedAt,
  };
}
