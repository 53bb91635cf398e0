/**
 * Archives: first every entry is looked at, then the wanted ones are written. An entry that is not a plain file or
 * folder, or that names a place outside, refuses the whole archive; sizes and numbers are bounded before anything lands.
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Parser, type ReadEntry } from 'tar';
import yauzl from 'yauzl';
import { AppError } from '../errors.js';

/** An entry that is a file. */
export interface ArchiveEntry {
  readonly path: string;
  readonly size: number;
}

/** What an archive may hold. */
export interface UnpackLimits {
  /** Most bytes of all entries together, unpacked. */
  readonly maxBytes: number;
  readonly maxEntries: number;
}

type Fail = (what: string) => AppError;

/** Which entries to write, of all that are files. */
export type Choose = (entries: readonly ArchiveEntry[]) => Promise<readonly ArchiveEntry[]>;

/**
 * Writes the chosen files of an archive below `folder`.
 * @param name what the archive is called, which tells its kind by its end
 * @returns the written entries
 * @throws AppError ADAPTER_SOURCE_INVALID (broken, or with links, devices or places outside), SOURCE_TOO_LARGE
 */
export async function unpackArchive(
  archive: string,
  name: string,
  folder: string,
  choose: Choose,
  limits: UnpackLimits,
  label: string,
): Promise<readonly ArchiveEntry[]> {
  const fail: Fail = (what) => new AppError('ADAPTER_SOURCE_INVALID', `${label}: ${what}`);
  const count = counter(limits, label);
  return /\.zip$/i.test(name)
    ? unpackZip(archive, folder, choose, count, fail)
    : unpackTar(archive, folder, choose, count, fail);
}

/** Counts entries and their bytes; throws SOURCE_TOO_LARGE with the numbers. */
function counter({ maxBytes, maxEntries }: UnpackLimits, label: string): (bytes: number) => void {
  let entries = 0;
  let total = 0;
  return (bytes) => {
    entries += 1;
    total += bytes;
    if (total > maxBytes) {
      throw new AppError(
        'SOURCE_TOO_LARGE',
        `${label}: unpacks to ${total} bytes or more; at most ${maxBytes} are taken`,
      );
    }
    if (entries > maxEntries) {
      throw new AppError('SOURCE_TOO_LARGE', `${label}: has more than ${maxEntries} entries`);
    }
  };
}

/** The entry's path in one spelling. Throws where it names a place outside. */
function safePath(given: string, fail: Fail): string {
  const path = given.replace(/^(\.\/)+/, '').replace(/\/+$/, '');
  const parts = path === '' || path === '.' ? [] : path.split('/');
  if (/^([/\\]|[a-z]:)/i.test(path) || parts.some((part) => part === '..' || part === '' || /[\\\0]/.test(part))) {
    throw fail(`its entry ${JSON.stringify(given)} names a place outside of the archive`);
  }
  return parts.filter((part) => part !== '.').join('/');
}

async function target(folder: string, path: string): Promise<string> {
  const place = join(folder, path);
  await mkdir(dirname(place), { recursive: true, mode: 0o700 });
  return place;
}

async function unpackTar(
  archive: string,
  folder: string,
  choose: Choose,
  count: (bytes: number) => void,
  fail: Fail,
): Promise<readonly ArchiveEntry[]> {
  const entries = new Map<string, ArchiveEntry>();
  await walkTar(archive, fail, async (entry, path) => {
    if (entry.type === 'Directory') count(0);
    else {
      count(entry.size);
      if (entries.has(path)) throw fail(`it has the entry ${JSON.stringify(path)} twice`);
      entries.set(path, { path, size: entry.size });
    }
    entry.resume();
  });
  const chosen = await choose([...entries.values()]);
  const wanted = new Set(chosen.map(({ path }) => path));
  await walkTar(archive, fail, async (entry, path) => {
    if (entry.type === 'Directory' || !wanted.has(path)) entry.resume();
    else await pipeline(entry as unknown as Readable, createWriteStream(await target(folder, path), { flush: true }));
  });
  return chosen;
}

/** Calls `visit` for each entry; it must consume it. Rejects for entries that are neither file nor folder. */
async function walkTar(
  archive: string,
  fail: Fail,
  visit: (entry: ReadEntry, path: string) => Promise<void>,
): Promise<void> {
  const file = createReadStream(archive);
  let failure: unknown;
  const stop = (error: unknown) => {
    failure ??= error;
    file.destroy();
  };
  const visits: Promise<void>[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry) => {
      const kind = entry.type;
      const work = async () => {
        if (failure !== undefined) return void entry.resume();
        if (kind !== 'File' && kind !== 'OldFile' && kind !== 'ContiguousFile' && kind !== 'Directory') {
          throw fail(`its entry ${JSON.stringify(entry.path)} is a ${kind}; only files and folders are taken`);
        }
        await visit(entry, safePath(entry.path, fail));
      };
      visits.push(
        work().catch((error: unknown) => {
          stop(error);
          entry.resume();
        }),
      );
    },
  });
  await new Promise<void>((resolve) => {
    parser.on('end', resolve);
    parser.on('error', (error: Error) => {
      stop(fail(`the archive is broken: ${error.message}`));
      resolve();
    });
    file.on('error', (error) => stop(error));
    file.on('close', () => (failure === undefined ? undefined : resolve()));
    file.on('data', (bytes) => {
      if (!parser.write(bytes as Buffer)) {
        file.pause();
        parser.once('drain', () => file.resume());
      }
    });
    file.on('end', () => parser.end());
  });
  await Promise.all(visits);
  if (failure !== undefined) throw failure;
}

async function unpackZip(
  archive: string,
  folder: string,
  choose: Choose,
  count: (bytes: number) => void,
  fail: Fail,
): Promise<readonly ArchiveEntry[]> {
  const broken = (error: unknown) => {
    if (error instanceof AppError) return error;
    // Names such as "../x" and absolute ones are refused by the library with a message of its own.
    return fail(`the archive is broken: ${(error as Error).message}`);
  };
  try {
    const zip = await yauzl.openPromise(archive, { autoClose: false });
    try {
      const entries = new Map<string, yauzl.Entry>();
      for await (const entry of zip.eachEntry()) {
        const path = safePath(entry.fileName, fail);
        const kind = (entry.externalFileAttributes >>> 16) & 0o170000;
        if (kind !== 0 && kind !== 0o100000 && kind !== 0o040000) {
          throw fail(
            `its entry ${JSON.stringify(entry.fileName)} is a link or device; only files and folders are taken`,
          );
        }
        count(entry.uncompressedSize);
        if (entry.fileName.endsWith('/')) continue;
        if (entry.isEncrypted()) throw fail(`its entry ${JSON.stringify(entry.fileName)} is encrypted`);
        if (entries.has(path)) throw fail(`it has the entry ${JSON.stringify(path)} twice`);
        entries.set(path, entry);
      }
      const chosen = await choose(
        [...entries].map(([path, { uncompressedSize }]) => ({ path, size: uncompressedSize })),
      );
      for (const { path } of chosen) {
        const stream = await zip.openReadStreamPromise(entries.get(path)!);
        await pipeline(stream, createWriteStream(await target(folder, path), { flush: true }));
      }
      return chosen;
    } finally {
      zip.close();
    }
  } catch (error) {
    throw broken(error);
  }
}
