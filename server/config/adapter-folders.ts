/** The folders whose sub-folders are a model's adapters. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { isAdapterFolder } from '../adapters/source.js';
import { ConfigError } from './config-error.js';
import { isFolder, requireReadable } from './readable-folder.js';

/**
 * @param folder the model's, what its properties name is relative to
 * @param weights folder of the weights
 * @param named `option.adapters` of the properties
 * @param where it stands, for messages
 * @param flag `--adapters`, which wins
 * @throws ConfigError where what is named is no folder, cannot be read, or is itself an adapter
 */
export function adapterFolders(
  folder: string,
  weights: string,
  named: string | undefined,
  where: string,
  flag: string | undefined,
  cwd: string,
): string[] {
  if (flag !== undefined) {
    const place = path.resolve(cwd, flag);
    if (!isFolder(place)) throw new ConfigError(`--adapters ${flag}: there is no folder ${place}`);
    requireReadable(place, `--adapters ${flag}`);
    requireNoAdapter(place, `--adapters ${flag}`);
    return [place];
  }
  if (named !== undefined) {
    const place = path.resolve(folder, named);
    if (!isFolder(place)) throw new ConfigError(`${where} names no folder: ${place}`);
    requireNoAdapter(place, `${where}=${named}`);
    return [place];
  }
  const candidates = [...new Set([path.join(folder, 'adapters'), path.join(weights, 'adapters')])];
  return candidates.filter(isFolder);
}

/** An adapter's own folder, named by slip, has no sub-folder that is one: nothing would be served of it. */
function requireNoAdapter(place: string, where: string): void {
  const names = (folder: string) => {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  };
  const here = names(place);
  if (!isAdapterFolder(here) || here.some((name) => isAdapterFolder(names(path.join(place, name))))) return;
  throw new ConfigError(
    `${where}: ${place} is an adapter itself; name the folder whose sub-folders are adapters, such as ${path.dirname(place)}`,
  );
}
