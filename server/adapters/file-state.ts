/** What the file system says of files, to notice that somebody has changed them without reading them. */
import type { BigIntStats } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Files of a folder that are looked at: adapters have a few, their folders may have more. */
const MOST_FILES = 1000;

/** What tells a file from another one, and from what it was before somebody wrote to it. */
export function fileState({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join(':');
}

/**
 * The states of the files in a folder and in the folders in it, where adapters with a name lie. Equal ones mean that nobody
 * has changed any. Never throws: what cannot be looked at is in that state.
 */
export async function folderState(folder: string): Promise<string> {
  const states: string[] = [];
  const look = async (path: string, deeper: number): Promise<void> => {
    if (states.length >= MOST_FILES) return;
    const stats = await stat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => error.code ?? '');
    states.push(`${path}:${typeof stats === 'string' ? stats : fileState(stats)}`);
    if (deeper === 0 || typeof stats === 'string' || !stats.isDirectory()) return;
    const names = await readdir(path).catch(() => []);
    for (const name of names.sort()) await look(join(path, name), deeper - 1);
  };
  await look(folder, 2);
  return states.join('\n');
}
