/** Downloads an archive, checks its digest, and unpacks the wanted files into the cache. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { downloadFile } from './download-file.js';
import { asOnlyOne, checkSize, type RunningJob, sizeOf } from './fetch-snapshot.js';
import { withRetry } from './retry.js';
import type { ArchiveSource } from './source.js';
import { unpackArchive } from './unpack.js';
import { wantedFiles } from './wanted-files.js';

/** Most entries of an archive. */
const MAX_ENTRIES = 10_000;

/** Brings an archive's wanted files here and publishes them under the key. */
export async function fetchArchive(source: ArchiveSource, key: string, job: RunningJob): Promise<void> {
  const { origin, cache, kind, signal } = job;
  await asOnlyOne(key, job, async () => {
    const [file] = await withRetry(job.retry, signal, () => origin.list(signal));
    const totalBytes = file!.size;
    checkSize(totalBytes, job);
    const archive = cache.partialPath(source.sha256);
    await cache.room.make(totalBytes - (await cache.partialBytes([source.sha256])), origin.label);
    let bytes = 0;
    await downloadFile(origin, file!, archive, {
      ...job,
      onBytes: (more) => {
        bytes += more;
        job.onProgress({ bytes, totalBytes });
      },
    });
    const folder = await cache.workFolder();
    try {
      const unpacked = await unpackArchive(
        archive,
        source.url.pathname,
        folder,
        async (entries) => {
          const chosen = wantedFiles(entries, kind, origin.label);
          await cache.room.make(sizeOf(chosen), origin.label);
          return chosen;
        },
        { maxBytes: job.maxBytes, maxEntries: MAX_ENTRIES },
        origin.label,
      );
      const files = [];
      for (const { path, size } of unpacked) {
        signal.throwIfAborted();
        const place = join(folder, path);
        const sha256 = await digestOf(place);
        await cache.addBlob(place, sha256);
        files.push({ path, size, sha256 });
      }
      await cache.publish(key, { source: origin.label, files });
    } finally {
      await rm(folder, { recursive: true, force: true });
      await rm(archive, { force: true });
    }
  });
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}
