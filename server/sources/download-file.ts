/**
 * Downloads one file into a partial file. What a cut connection or a killed server left is continued, not fetched again;
 * the result is checked against everything that the origin says of it.
 */
import { type FileHandle, open, rm } from 'node:fs/promises';
import { AppError } from '../errors.js';
import { ContentHash } from './content-hash.js';
import { type KnownDigests, type Origin, type RemoteFile, SourceChanged } from './origin.js';
import { backOffMs, mayPass, pause, type RetryPolicy } from './retry.js';

/** How a download goes. */
export interface DownloadOptions {
  readonly signal: AbortSignal;
  readonly retry: RetryPolicy;
  /** Longest silence of the origin within a body, in milliseconds. */
  readonly idleMs: number;
  /** Called with each piece's bytes, also those that were there already. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** Bytes read at a time of what is there already. */
const READ_BYTES = 1024 * 1024;

/** State of one download over its attempts. */
interface Progress {
  readonly file: FileHandle;
  hash: ContentHash;
  done: number;
  digests: KnownDigests;
}

/**
 * Fetches `file` into `partial` and makes it durable.
 * @returns the content's SHA-256, lower-case hex
 * @throws AppError SOURCE_CORRUPT, SOURCE_UNAVAILABLE, or what the origin throws; SourceChanged; errors of the file
 * system as they are; what the signal was aborted with. The partial file stays unless its content is wrong or the disk
 * is full.
 */
export async function downloadFile(
  origin: Origin,
  file: RemoteFile,
  partial: string,
  options: DownloadOptions,
): Promise<string> {
  const handle = await open(partial, 'a+');
  await handle.close();
  const writable = await open(partial, 'r+');
  const progress: Progress = { file: writable, hash: new ContentHash(file.size), done: 0, digests: file.digests };
  let keep = true;
  try {
    await readBack(progress, file, options);
    for (let corrupt = 0; ; ) {
      await fetchRest(origin, file, progress, options);
      const { sha256, wrong } = progress.hash.finish(progress.digests);
      if (wrong === undefined) {
        await writable.sync();
        return sha256;
      }
      corrupt += 1;
      await restart(progress, file);
      if (corrupt > 1) {
        keep = false;
        throw new AppError('SOURCE_CORRUPT', `${origin.label}: ${file.path} arrived broken ${corrupt} times: ${wrong}`);
      }
    }
  } catch (error) {
    // What is no longer true, and what takes the room that is missing, goes.
    if (error instanceof SourceChanged || isFull(error)) keep = false;
    throw error;
  } finally {
    await writable.close();
    if (!keep) await rm(partial, { force: true });
  }
}

/** Hashes what an earlier attempt left. */
async function readBack(progress: Progress, file: RemoteFile, options: DownloadOptions): Promise<void> {
  const { size } = await progress.file.stat();
  if (size > file.size) await progress.file.truncate(0);
  const there = size > file.size ? 0 : size;
  const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, Math.max(1, there)));
  while (progress.done < there) {
    options.signal.throwIfAborted();
    const { bytesRead } = await progress.file.read(buffer, 0, buffer.length, progress.done);
    if (bytesRead === 0) break;
    progress.hash.add(buffer.subarray(0, bytesRead), progress.digests);
    progress.done += bytesRead;
    options.onBytes?.(bytesRead);
  }
}

async function restart(progress: Progress, file: RemoteFile): Promise<void> {
  await progress.file.truncate(0);
  progress.hash = new ContentHash(file.size);
  progress.done = 0;
}

/** Gets what is missing, over as many connections as bring something. */
async function fetchRest(
  origin: Origin,
  file: RemoteFile,
  progress: Progress,
  options: DownloadOptions,
): Promise<void> {
  for (let failed = 0; progress.done < file.size; ) {
    const before = progress.done;
    try {
      await fetchOnce(origin, file, progress, options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (!mayPass(error)) throw error;
      failed = progress.done > before ? 1 : failed + 1;
      if (failed >= options.retry.attempts) throw error;
      await pause(backOffMs(options.retry, failed, (error as AppError).retryAfterMs), options.signal);
    }
  }
}

async function fetchOnce(
  origin: Origin,
  file: RemoteFile,
  progress: Progress,
  options: DownloadOptions,
): Promise<void> {
  const cut = (what: string) =>
    new AppError(
      'SOURCE_UNAVAILABLE',
      `${origin.label}: ${file.path}: ${what} after ${progress.done} of ${file.size} bytes`,
    );
  const { body, offset, digests } = await origin.open(file, progress.done, options.signal);
  if (digests !== undefined) progress.digests = { ...progress.digests, ...digests };
  let idle: NodeJS.Timeout | undefined;
  try {
    if (offset !== progress.done) await restart(progress, file);
    const stalled = () => body.destroy(cut(`nothing came for ${options.idleMs} ms`));
    idle = setTimeout(stalled, options.idleMs);
    const aborted = () => body.destroy(new Error('aborted'));
    options.signal.addEventListener('abort', aborted, { once: true });
    try {
      for await (const piece of body as AsyncIterable<Buffer>) {
        idle.refresh();
        if (progress.done + piece.length > file.size) {
          body.destroy();
          throw new SourceChanged(origin.label);
        }
        await writeAll(progress.file, piece, progress.done);
        progress.hash.add(piece, progress.digests);
        progress.done += piece.length;
        options.onBytes?.(piece.length);
      }
    } finally {
      options.signal.removeEventListener('abort', aborted);
    }
    if (progress.done < file.size) throw cut('the connection ended');
  } catch (error) {
    body.destroy();
    if (error instanceof AppError || error instanceof SourceChanged) throw error;
    const { code, syscall } = error as NodeJS.ErrnoException;
    // Errors of the disk are not the origin's.
    if (syscall === 'write' || syscall === 'ftruncate' || isFull(error)) throw error;
    throw cut(`the connection broke (${code ?? 'closed'})`);
  } finally {
    clearTimeout(idle);
  }
}

function isFull(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOSPC' || code === 'EDQUOT';
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}
