/** Whether a place lies below another: the one comparison for everything that must stay inside a folder. */
import { realpathSync } from 'node:fs';
import { resolve, sep } from 'node:path';

/** True for the root itself and all below it; both absolute, as far as links are to be followed. */
export function isBelow(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}

/** The path with its links followed; as it is, but absolute, where nothing is there: who opens it tells so. */
export function realPathOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}
