/** A module that lies in an adapter's folder: code, which is looked for but not read. */
import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { openAdapterFolder } from './source.js';
import { readingFiles } from './unreadable.js';

/** Names that a module may have, in the order in which they are looked for. */
const NAMES = ['handler.ts', 'handler.mjs', 'handler.js'];

/** A module that an adapter brings. */
export interface AdapterModule {
  /** Its name in the adapter's folder. */
  readonly file: string;
  /** Real folder that holds adapter_config.json and the module, or the link to it. */
  readonly folder: string;
  /** Real path, which a link may have led anywhere. */
  readonly path: string;
}

/**
 * Looks for a module beside an adapter's config.
 * @returns undefined where there is none
 * @throws AppError as {@link openAdapterFolder}
 */
export async function findAdapterModule(folder: string, roots: readonly string[]): Promise<AdapterModule | undefined> {
  const { path: real } = await openAdapterFolder(folder, roots);
  for (const file of NAMES) {
    const path = await realpath(join(real, file)).catch(() => undefined);
    if (path === undefined) continue;
    if ((await readingFiles(folder, () => stat(path))).isFile()) return { file, folder: real, path };
  }
  return undefined;
}
