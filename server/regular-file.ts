/**
 * Reading files of folders that others fill. What is no regular file is refused: opening a FIFO waits for whoever writes to
 * it, holding a thread that all files are read in, and a device may have no end.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';

/** Flags to open a file with that may turn out to be something else: non-blocking, so that a FIFO holds up nobody. */
export const READ_WITHOUT_WAITING = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0);

/** Code of the error for what is no file. */
export const NOT_A_FILE = 'ERR_NOT_A_FILE';

/** Reads a whole file. Throws Node's error, or one with the code {@link NOT_A_FILE}. */
export async function readRegular(path: string): Promise<Buffer> {
  const handle = await open(path, READ_WITHOUT_WAITING);
  try {
    checkRegular(await handle.stat(), path);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}

/** {@link readRegular} in this thread. */
export function readRegularSync(path: string): Buffer {
  const descriptor = openSync(path, READ_WITHOUT_WAITING);
  try {
    checkRegular(fstatSync(descriptor), path);
    return readFileSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** A folder is left to the call that reads: the system says what it is. */
function checkRegular(found: Stats, path: string): void {
  if (found.isFile() || found.isDirectory()) return;
  throw Object.assign(new Error(`not a regular file, read '${path}'`), { code: NOT_A_FILE, syscall: 'read', path });
}
