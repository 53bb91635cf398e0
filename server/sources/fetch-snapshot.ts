/** Downloads the wanted files of an origin into the cache, and lets them appear together. */
import { createHash } from 'node:crypto';
import { AppError } from '../errors.js';
import type { ContentCache } from './content-cache.js';
import { downloadFile } from './download-file.js';
import { beginHeartbeat, type Heartbeat } from './heartbeat-file.js';
import type { Origin, RemoteFile } from './origin.js';
import { pause, type RetryPolicy } from './retry.js';
import type { OnProgress } from './shared-work.js';
import { type SourceKind, wantedFiles } from './wanted-files.js';

/** What a download needs to know. */
export interface FetchJob {
  readonly origin: Origin;
  readonly kind: SourceKind;
  readonly cache: ContentCache;
  /** Most bytes of the source. */
  readonly maxBytes: number;
  readonly idleMs: number;
  readonly retry: RetryPolicy;
}

/** A download that runs. */
export interface RunningJob extends FetchJob {
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
}

/** How often a process looks whether another one has finished the same download. */
const POLL_MS = 200;

/** Key of the content that a listing names: the same files in the same versions have the same key. */
export function snapshotKey({ origin, kind }: FetchJob, files: readonly RemoteFile[]): string {
  const wanted = wantedFiles(files, kind, origin.label).map(({ path, size, version }) => [path, size, version]);
  return createHash('sha256')
    .update(JSON.stringify([origin.label, kind, wanted.sort()]))
    .digest('hex');
}

/** Refuses what is larger than a source may be, before anything is fetched. */
export function checkSize(bytes: number, { maxBytes, origin }: FetchJob): void {
  if (bytes <= maxBytes) return;
  throw new AppError('SOURCE_TOO_LARGE', `${origin.label} has ${bytes} bytes; at most ${maxBytes} are fetched`, {
    metadata: { bytes: String(bytes), limit: String(maxBytes) },
  });
}

/**
 * Runs `work` while no other process does; when another one has made the snapshot meanwhile, there is nothing to do.
 */
export async function asOnlyOne(key: string, job: RunningJob, work: () => Promise<void>): Promise<void> {
  let lock: Heartbeat | undefined;
  for (;;) {
    lock = await beginHeartbeat(job.cache.lockPath(key));
    if (lock !== undefined) break;
    await pause(POLL_MS, job.signal);
  }
  try {
    const there = await job.cache.hold(key);
    if (there === undefined) await work();
    else there.release();
  } finally {
    await lock.end();
  }
}

/** Sum of the sizes. */
export function sizeOf(files: readonly { readonly size: number }[]): number {
  return files.reduce((sum, { size }) => sum + size, 0);
}

/** Names the download of one version of a file: only its own bytes are ever continued. */
function partialId({ path, size, version }: RemoteFile, { origin }: FetchJob): string {
  return createHash('sha256')
    .update(JSON.stringify([origin.label, path, size, version]))
    .digest('hex');
}

/** Downloads one file of the origin into the cache's contents. */
async function fetchBlob(
  file: RemoteFile,
  job: RunningJob,
  onBytes: (bytes: number) => void,
): Promise<{ readonly path: string; readonly size: number; readonly sha256: string }> {
  const { origin, cache } = job;
  const known = file.digests.sha256;
  if (known !== undefined && (await cache.hasBlob(known, file.size))) {
    onBytes(file.size);
    return { path: file.path, size: file.size, sha256: known };
  }
  const partial = cache.partialPath(partialId(file, job));
  const sha256 = await downloadFile(origin, file, partial, { ...job, onBytes });
  await cache.addBlob(partial, sha256);
  return { path: file.path, size: file.size, sha256 };
}

/** Brings the wanted files here and publishes them under the key. */
export async function fetchSnapshot(files: readonly RemoteFile[], key: string, job: RunningJob): Promise<void> {
  const { origin, cache, kind } = job;
  const wanted = wantedFiles(files, kind, origin.label);
  const totalBytes = sizeOf(wanted);
  checkSize(totalBytes, job);
  await asOnlyOne(key, job, async () => {
    const begun = await cache.partialBytes(wanted.map((file) => partialId(file, job)));
    await cache.room.make(totalBytes - begun, origin.label);
    let bytes = 0;
    const fetched = [];
    for (const file of wanted) {
      fetched.push(
        await fetchBlob(file, job, (more) => {
          bytes += more;
          job.onProgress({ bytes, totalBytes });
        }),
      );
    }
    await cache.publish(key, { source: origin.label, files: fetched });
  });
}
