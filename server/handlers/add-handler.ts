/** Starts the handler of a model that has one. */

import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { allAdapters } from '../service/all-adapters.js';
import type { OpenedHandler, OpenedModel } from '../service/model-description.js';
import type { AdapterService, ModelInfo } from '../service/types.js';
import type { HandlerModels } from './handler-models.js';
import type { HandlerLog } from './handler-thread.js';

/**
 * Starts it and tells it of the adapters that lie in the model's folder. Where the handler stands alone, each sub-folder
 * of `adapters/` is registered by it; with weights, those that are loaded are told.
 * @returns what is told of a model that is this handler and nothing else
 * @throws AppError MODEL_INVALID where it cannot be started
 */
export async function addHandler(
  handlers: HandlerModels,
  loaded: Pick<AdapterService, 'list'>,
  name: string,
  { options, adapterFolders, handler }: OpenedModel & { readonly handler: OpenedHandler },
  log: HandlerLog,
): Promise<ModelInfo> {
  const { folder, entryPoint, properties, alone, callMs } = handler;
  const { loraEnabled } = options;
  const info = await handlers.add({
    ...{ name, entryPoint, properties, loraEnabled, callMs },
    dir: folder,
    hasWeights: !alone,
  });
  const { adapters } = handlers.adapters(name)!;
  const call = { requestId: 'start', signal: new AbortController().signal };
  const refused = (adapter: string) => (error: Error) =>
    log.warn({ model: name, adapter, err: error }, 'the handler refused an adapter');
  if (!alone) {
    if (!loraEnabled) return info;
    for (const { name: adapter, source, preload, pin } of await allAdapters(loaded, name)) {
      const request = { name: adapter, source, preload, pin };
      await adapters.tell('registerAdapter', request, call).catch(refused(adapter));
      adapters.note(request);
    }
    return info;
  }
  for (const dir of adapterFolders) {
    for (const entry of await readdir(dir, { withFileTypes: true })) {
      if (!entry.isDirectory()) continue;
      const request = { name: entry.name, source: path.join(dir, entry.name) };
      await adapters.create(request, call).catch(refused(entry.name));
    }
  }
  return info;
}
