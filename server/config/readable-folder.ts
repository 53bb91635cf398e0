/** Folders that the operator names: what is there, and whether this user may look into it. */
import { readdirSync, statSync } from 'node:fs';
import { ConfigError } from './config-error.js';

/** True for a folder, links followed. */
export const isFolder = (place: string): boolean => statSync(place, { throwIfNoEntry: false })?.isDirectory() ?? false;

/**
 * What lies in a folder without access looks as if it were not there.
 * @param where what names it, for the message
 * @throws ConfigError
 */
export function requireReadable(folder: string, where: string): void {
  try {
    readdirSync(folder);
    statSync(`${folder}/.`);
  } catch (error) {
    throw new ConfigError(`${where}: ${folder} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}
