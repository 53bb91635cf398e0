/** What the file system refuses, as a fault of the source: a folder of somebody else may change between any two looks. */
import { AppError } from '../errors.js';
import { NOT_A_FILE } from '../regular-file.js';

/** ADAPTER_SOURCE_INVALID for a path that the file system refused. */
export function unreadable(path: string, error: unknown): AppError {
  const { code } = error as NodeJS.ErrnoException;
  return new AppError('ADAPTER_SOURCE_INVALID', `${JSON.stringify(path)} ${whatIsWrong(code)}`, { cause: error });
}

function whatIsWrong(code: string | undefined): string {
  if (code === 'ENOENT' || code === 'ENOTDIR') return 'does not exist';
  return code === NOT_A_FILE ? 'is not a regular file' : `cannot be read (${code})`;
}

/** True for errors of file calls, which name the call. */
function isOfFiles(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}

/**
 * Does what reads files below `path`.
 * @throws AppError ADAPTER_SOURCE_INVALID instead of an error of the file system; other errors as they are
 */
export async function readingFiles<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw isOfFiles(error) ? unreadable(error.path ?? path, error) : error;
  }
}
