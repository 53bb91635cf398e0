/** From a folder to a {@link BoundAdapter}: the one way in which adapters come in. */
import { readAdapterText } from './adapter-text.js';
import { type BindOptions, bindAdapter } from './bind.js';
import { findGgufAdapter, openGgufAdapter } from './gguf/gguf-adapter.js';
import type { KnownForms } from './known-forms.js';
import { type PeftConfig, parsePeftConfig } from './peft-config.js';
import { openSafetensorsSet, type SafetensorsSet } from './safetensors-set.js';
import { checkInside, openAdapterFolder } from './source.js';
import type { AdapterBase, BoundAdapter } from './types.js';
import { readingFiles } from './unreadable.js';

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
  const { files, config, path } = await openAdapter(folder, base, roots, options.tools?.known);
  try {
    const readText = path === undefined ? undefined : (size: number) => readAdapterText(path, roots, size);
    return await readingFiles(folder, () => bindAdapter(files, config, base, { ...options, readText }));
  } finally {
    await files.close();
  }
}

/** An adapter's config and its open files; `path` is the folder of a PEFT adapter. */
export interface OpenedAdapter {
  readonly files: SafetensorsSet;
  readonly config: PeftConfig;
  readonly path?: string | undefined;
}

/**
 * Opens an adapter: a PEFT folder, or a GGUF file (alone, or in a folder of its own).
 * @throws AppError as {@link readAdapterFolder}
 */
export function openAdapter(
  folder: string,
  base: AdapterBase,
  roots: readonly string[],
  known?: KnownForms,
): Promise<OpenedAdapter> {
  return readingFiles(folder, () => open(folder, base, roots, known));
}

async function open(
  folder: string,
  base: AdapterBase,
  roots: readonly string[],
  known: KnownForms | undefined,
): Promise<OpenedAdapter> {
  const gguf = await findGgufAdapter(await checkInside(folder, roots));
  if (gguf !== undefined) return openGgufAdapter(await checkInside(gguf, roots), base);
  const { path, config: text } = await openAdapterFolder(folder, roots);
  const parse = () => parsePeftConfig(text);
  const config = known?.configs.of(text, 0, parse) ?? parse();
  const files = await openSafetensorsSet(path, 'adapter_model', {
    reason: 'ADAPTER_INVALID',
    maxHeaderBytes: MAX_HEADER_BYTES,
    checkPath: (file) => checkInside(file, roots),
    headers: known?.headers,
  });
  return { files, config, path };
}
