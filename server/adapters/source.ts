/**
 * Where adapters may be read from: folders below the allowed roots, also after every symbolic link is followed. A
 * Hugging Face cache (snapshots that link to blobs) is fine while both lie below one root.
 */
import { readdir, stat } from 'node:fs/promises';
import { isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '../errors.js';
import { fileCalls } from './file-calls.js';
import { isBelow } from './real-path.js';
import { readingFiles, unreadable } from './unreadable.js';

/** Longest adapter_config.json that is read. */
const MAX_CONFIG_BYTES = 4 * 1024 * 1024;
const CONFIG = 'adapter_config.json';

/** A folder with an adapter in it, checked to lie below an allowed root. */
export interface AdapterFolder {
  /** Real path of the folder that holds adapter_config.json. */
  readonly path: string;
  /** Bytes of adapter_config.json. */
  readonly config: Uint8Array;
}

function forbidden(what: string): AppError {
  return new AppError('ADAPTER_SOURCE_FORBIDDEN', `${what} lies outside the folders that adapters may be read from`);
}

/** Turns a source (absolute path, `file:` URI, or path relative to the model folder) into an absolute path. */
export function sourcePath(source: string, modelDir: string): string {
  const fail = (what: string) => new AppError('ADAPTER_SOURCE_INVALID', `source ${JSON.stringify(source)}: ${what}`);
  if (source === '') throw fail('it is empty; the path of a folder would be right');
  if (source.includes('\0')) throw fail('it holds a NUL character');
  if (/^file:/i.test(source)) {
    try {
      return resolve(fileURLToPath(source));
    } catch (error) {
      throw fail(`not a usable file URI: ${(error as Error).message}`);
    }
  }
  if (/^[a-z][a-z0-9+.-]+:\/\//i.test(source)) throw fail('only folders and file: URIs can be read');
  return isAbsolute(source) ? resolve(source) : resolve(modelDir, source);
}

/**
 * Checks a path against the allowed roots, before and after links are followed; nothing outside is even looked at.
 * @returns the real path
 * @throws AppError ADAPTER_SOURCE_FORBIDDEN (outside) or ADAPTER_SOURCE_INVALID (not there)
 */
export async function checkInside(path: string, roots: readonly string[]): Promise<string> {
  const realRoots = await Promise.all(
    roots.map((root) =>
      fileCalls()
        .realpath(root)
        .catch(() => resolve(root)),
    ),
  );
  const absolute = resolve(path);
  const allowed = [...roots.map((root) => resolve(root)), ...realRoots];
  if (!allowed.some((root) => isBelow(absolute, root))) throw forbidden(JSON.stringify(path));
  let real: string;
  try {
    real = await fileCalls().realpath(absolute);
  } catch (error) {
    throw unreadable(path, error);
  }
  if (!realRoots.some((root) => isBelow(real, root))) {
    throw forbidden(`${JSON.stringify(path)} is or goes through a symbolic link, whose target`);
  }
  return real;
}

async function isFile(path: string): Promise<boolean> {
  return (await fileCalls().find(path))?.isFile() === true;
}

/** The folder itself if it has a config, else its only subfolder that has one (PEFT saves named adapters so). */
async function configFolder(folder: string, roots: readonly string[]): Promise<string> {
  if (await isFile(join(folder, CONFIG))) return folder;
  const found: string[] = [];
  for (const entry of await fileCalls().entries(folder)) {
    if ((entry.isDirectory() || entry.isSymbolicLink()) && (await isFile(join(folder, entry.name, CONFIG)))) {
      found.push(entry.name);
    }
  }
  if (found.length === 1) return checkInside(join(folder, found[0]!), roots);
  const what =
    found.length === 0
      ? `there is no ${CONFIG} in ${JSON.stringify(folder)} or in one of its folders`
      : `${JSON.stringify(folder)} holds several adapters (${found.sort().slice(0, 20).join(', ')}); name one of them`;
  throw new AppError('ADAPTER_SOURCE_INVALID', what);
}

/**
 * Finds the adapter in a folder and reads its config.
 * @throws AppError ADAPTER_SOURCE_INVALID, ADAPTER_SOURCE_FORBIDDEN, or ADAPTER_INVALID (config too long)
 */
export async function openAdapterFolder(folder: string, roots: readonly string[]): Promise<AdapterFolder> {
  const real = await checkInside(folder, roots);
  return readingFiles(folder, async () => {
    if (!(await fileCalls().stat(real)).isDirectory()) {
      throw new AppError('ADAPTER_SOURCE_INVALID', `${JSON.stringify(folder)} is not a folder`);
    }
    const path = await configFolder(real, roots);
    return { path, config: await readInside(path, CONFIG, roots, MAX_CONFIG_BYTES) };
  });
}

/**
 * Reads a whole file of an adapter's folder.
 * @throws AppError what {@link checkInside} throws, also where the file cannot be read; ADAPTER_INVALID where it is no
 * file or longer than `most` bytes
 */
export async function readInside(
  folder: string,
  name: string,
  roots: readonly string[],
  most: number,
): Promise<Uint8Array> {
  const real = await checkInside(join(folder, name), roots);
  return readingFiles(real, async () => {
    const found = await fileCalls().stat(real);
    if (!found.isFile()) throw new AppError('ADAPTER_INVALID', `${name}: it is not a file`);
    if (found.size > most) {
      throw new AppError('ADAPTER_INVALID', `${name}: ${found.size} bytes; at most ${most} are read`);
    }
    return fileCalls().readFile(real);
  });
}

/** True for the names that lie in the folder of one adapter. */
export function isAdapterFolder(names: readonly string[]): boolean {
  return names.includes(CONFIG);
}

/** The adapters of a directory: every subfolder is one, named as the folder; other entries are returned as ignored. */
export async function scanAdapterDirectory(dir: string): Promise<{ names: string[]; ignored: string[] }> {
  const names: string[] = [];
  const ignored: string[] = [];
  for (const entry of await readdir(dir)) {
    const isFolder = await stat(join(dir, entry)).then(
      (found) => found.isDirectory(),
      () => false,
    );
    (isFolder && !entry.startsWith('.') ? names : ignored).push(entry);
  }
  return { names: names.sort(), ignored: ignored.sort() };
}
