/** What a failure of the cache's disk means to whoever asked for a source. */
import { AppError } from '../errors.js';

/** SOURCE_CACHE_FULL where the disk is full, INTERNAL with a hint where the folder cannot be used; other errors as they are. */
export function cacheError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new AppError('SOURCE_CACHE_FULL', 'the disk of the cache is full', { cause: error });
  }
  if (syscall === undefined) return AppError.from(error);
  const message = `the cache of remote files cannot be used (${code}); --cache-dir names its folder`;
  return new AppError('INTERNAL', message, { cause: error });
}
