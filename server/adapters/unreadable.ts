/** What the file system refuses, as a fault of the source: a folder of somebody else may change between any two looks. */
import { AppError } from '../errors.js';
import { NOT_A_FILE } from '../regular-file.js';

/** What the system, or this process, has too little of at the moment: descriptors, memory. */
const SHORT = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN']);

/** SOURCE_UNAVAILABLE where a path was refused for want of something else: that says nothing about it. */
export function notNow(path: string, error: unknown): AppError | undefined {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined || !SHORT.has(code)) return undefined;
  const text = `${JSON.stringify(path)} cannot be read now (${code}): the server, or its machine, is short of open files or memory`;
  return new AppError('SOURCE_UNAVAILABLE', text, { retryAfterMs: 1000, cause: error });
}

/** SOURCE_UNAVAILABLE where a thread could not be started for want of something: whoever comes later may have it. */
export function noThreadNow(what: string, error: unknown): AppError | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  // A thread has a loop of its own, which has files; the message ends in what was refused.
  const began = code !== 'ERR_WORKER_INIT_FAILED';
  if (began && !SHORT.has(code ?? '')) return undefined;
  const lacking = began ? code : (/[A-Z]+$/.exec(message)?.[0] ?? code);
  const text = `${what} cannot be started now (${lacking}): the server, or its machine, is short of open files, threads or memory`;
  return new AppError('SOURCE_UNAVAILABLE', text, { retryAfterMs: 1000, cause: error });
}

/** ADAPTER_SOURCE_INVALID for a path that the file system refused; {@link notNow} where that passes. */
export function unreadable(path: string, error: unknown): AppError {
  const passing = notNow(path, error);
  if (passing !== undefined) return passing;
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
 * @throws AppError as {@link unreadable} instead of an error of the file system; other errors as they are
 */
export async function readingFiles<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw isOfFiles(error) ? unreadable(error.path ?? path, error) : error;
  }
}
