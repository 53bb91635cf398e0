/** Opening a file of a folder that somebody else filled. */
import { READ_WITHOUT_WAITING } from '../regular-file.js';
import { fileCalls, type OpenHandle } from './file-calls.js';
import { notNow } from './unreadable.js';

/**
 * Opens a regular file for reading.
 * @param fail makes the error to throw from what is wrong
 * @throws AppError SOURCE_UNAVAILABLE where the system lets nobody open a file now
 * @returns the file and its size in bytes; the caller closes it
 */
export async function openRegular(
  path: string,
  fail: (what: string, cause?: unknown) => Error,
): Promise<{ readonly handle: OpenHandle; readonly size: number }> {
  let handle: OpenHandle;
  try {
    handle = await fileCalls().open(path, READ_WITHOUT_WAITING);
  } catch (error) {
    const passing = notNow(path, error);
    if (passing !== undefined) throw passing;
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown';
    throw fail(code === 'ENOENT' ? 'the file is missing' : `the file cannot be opened (${code})`, error);
  }
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Error('not a regular file');
    return { handle, size: stat.size };
  } catch (error) {
    await handle.close();
    throw fail((error as Error).message, error);
  }
}
