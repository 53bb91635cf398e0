/** From a folder to a {@link BoundAdapter}: the one way in which adapters come in. */
import { type BindOptions, bindAdapter } from './bind.js';
import { parsePeftConfig } from './peft-config.js';
import { openSafetensorsSet } from './safetensors-set.js';
import { checkInside, openAdapterFolder } from './source.js';
import type { AdapterBase, BoundAdapter } from './types.js';

/** Longest safetensors header of an adapter, in bytes: some 200,000 tensors. */
export const MAX_HEADER_BYTES = 32 * 1024 * 1024;

/** What {@link readAdapterFolder} is allowed to read. */
export interface ReadAdapterOptions extends BindOptions {
  /** Folders that everything must lie below after links are followed; default: the folder itself. */
  readonly roots?: readonly string[] | undefined;
}

/**
 * Reads, checks and binds the adapter in a folder. Heavy for large adapters: the service runs it in a worker thread.
 * @throws AppError ADAPTER_SOURCE_INVALID, ADAPTER_SOURCE_FORBIDDEN, ADAPTER_INVALID, ADAPTER_UNSUPPORTED,
 * ADAPTER_MEMORY_EXHAUSTED
 */
export async function readAdapterFolder(
  folder: string,
  base: AdapterBase,
  options: ReadAdapterOptions = {},
): Promise<BoundAdapter> {
  const roots = options.roots ?? [folder];
  const { path, config } = await openAdapterFolder(folder, roots);
  const peft = parsePeftConfig(config);
  const files = await openSafetensorsSet(path, 'adapter_model', {
    reason: 'ADAPTER_INVALID',
    maxHeaderBytes: MAX_HEADER_BYTES,
    checkPath: (file) => checkInside(file, roots),
  });
  try {
    return await bindAdapter(files, peft, base, options);
  } finally {
    await files.close();
  }
}
