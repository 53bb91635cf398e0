/**
 * Files of remote sources, kept by content. `blobs/<sha256>` holds each content once; `snapshots/<key>/` holds what one
 * source had, as hard links to blobs, and appears only when it is complete. Bytes are bounded: what was used longest ago
 * and is not in use goes first. Several processes may share the folder.
 */
import { randomUUID } from 'node:crypto';
import {
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '../errors.js';
import { makeFolder } from '../folders.js';
import { beginHeartbeat, type Heartbeat, isAlive } from './heartbeat-file.js';
import { SourceChanged } from './origin.js';

/** A file of a snapshot. */
export interface CachedFile {
  readonly path: string;
  readonly size: number;
  readonly sha256: string;
}

/** What a snapshot's manifest says. */
interface Manifest {
  /** Where it came from, without secrets. */
  readonly source: string;
  readonly files: readonly CachedFile[];
}

/** A snapshot that stays while it is held. */
export interface HeldSnapshot {
  /** Folder with the files. */
  readonly folder: string;
  readonly files: readonly CachedFile[];
  readonly bytes: number;
  /** Idempotent. */
  release(): void;
}

const MANIFEST = 'manifest.json';
const FILES = 'files';
/** Age after which left-overs of processes that ended count as such. */
const LEFT_OVER_MS = 60 * 60 * 1000;
const KEEP_PARTIAL_MS = 7 * 24 * 60 * 60 * 1000;

/** The cache in one folder. */
export class ContentCache {
  readonly root: string;
  private readonly maxBytes: number;
  /** Snapshots held by this process: key -> number of holders and the mark for other processes. */
  private readonly held = new Map<string, { count: number; mark: Promise<Heartbeat | undefined> }>();

  /**
   * @param root folder of its own, made when it is first used
   * @param maxBytes most bytes of all contents together
   */
  constructor(root: string, maxBytes: number) {
    this.root = root;
    this.maxBytes = maxBytes;
  }

  /** Makes the folders. Throws what {@link diskError} makes of it where that is not possible. */
  async prepare(): Promise<void> {
    for (const folder of ['blobs', 'snapshots', 'partial', 'locks', 'marks', 'tmp']) {
      try {
        makeFolder(join(this.root, folder));
      } catch (error) {
        throw this.diskError(error);
      }
    }
  }

  /** Where a download of the given identity collects its bytes. */
  partialPath(id: string): string {
    return join(this.root, 'partial', id);
  }

  /** Bytes that downloads of the given identities have already. */
  async partialBytes(ids: readonly string[]): Promise<number> {
    const sizes = ids.map((id) =>
      stat(this.partialPath(id)).then(
        ({ size }) => size,
        () => 0,
      ),
    );
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  }

  /** Where the lock of a snapshot's making lies. */
  lockPath(key: string): string {
    return join(this.root, 'locks', key);
  }

  /** A new folder for work that is renamed or removed when it is done. */
  async workFolder(): Promise<string> {
    const folder = join(this.root, 'tmp', randomUUID());
    await mkdir(folder, { mode: 0o700 });
    return folder;
  }

  /** Holds a snapshot if it is there and whole; otherwise what is left of it goes. */
  async hold(key: string): Promise<HeldSnapshot | undefined> {
    const folder = join(this.root, 'snapshots', key);
    const drop = await this.mark(key);
    try {
      const manifest = JSON.parse(await readFile(join(folder, MANIFEST), 'utf8')) as Manifest;
      let bytes = 0;
      for (const { path, size } of manifest.files) {
        const found = await stat(join(folder, FILES, path));
        if (found.size !== size) throw new Error('a file has another size');
        bytes += size;
      }
      const now = new Date();
      await utimes(join(folder, MANIFEST), now, now);
      return { folder: join(folder, FILES), files: manifest.files, bytes, release: drop };
    } catch (error) {
      drop();
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && !(await exists(folder))) return undefined;
      await this.discard(key);
      return undefined;
    }
  }

  /** True where the content is there already. */
  async hasBlob(sha256: string, size: number): Promise<boolean> {
    return stat(join(this.root, 'blobs', sha256)).then(
      (found) => found.size === size,
      () => false,
    );
  }

  /** Takes a finished file of this file system in as content. */
  async addBlob(path: string, sha256: string): Promise<void> {
    const { size } = await stat(path);
    // What is there already has links, so it stays the one.
    if (await this.hasBlob(sha256, size)) await rm(path);
    else await rename(path, join(this.root, 'blobs', sha256));
  }

  /**
   * Makes the snapshot appear; what is there under the key already stays.
   * @throws SourceChanged where one of the contents is gone
   */
  async publish(key: string, manifest: Manifest): Promise<void> {
    const work = await this.workFolder();
    try {
      for (const { path, sha256 } of manifest.files) {
        const place = join(work, FILES, path);
        await mkdir(dirname(place), { recursive: true, mode: 0o700 });
        await link(join(this.root, 'blobs', sha256), place).catch((error: NodeJS.ErrnoException) => {
          // Another process made room in this moment.
          throw error.code === 'ENOENT' ? new SourceChanged(manifest.source) : error;
        });
      }
      await writeFile(join(work, MANIFEST), JSON.stringify(manifest), { flush: true, mode: 0o600 });
      await syncFolder(work);
      await rename(work, join(this.root, 'snapshots', key)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
      });
      await syncFolder(join(this.root, 'snapshots'));
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  /** Forgets a snapshot and the contents that no other snapshot has. Folders that are open stay readable to the end. */
  async discard(key: string): Promise<void> {
    const aside = join(this.root, 'tmp', randomUUID());
    try {
      await rename(join(this.root, 'snapshots', key), aside);
    } catch {
      return;
    }
    const manifest = await readFile(join(aside, MANIFEST), 'utf8').then(
      (text) => JSON.parse(text) as Manifest,
      () => undefined,
    );
    await rm(aside, { recursive: true, force: true });
    for (const { sha256 } of manifest?.files ?? []) {
      const blob = join(this.root, 'blobs', sha256);
      const found = await stat(blob).catch(() => undefined);
      if (found?.nlink === 1) await rm(blob, { force: true });
    }
  }

  /**
   * Removes what was used longest ago until `bytes` more fit.
   * @throws AppError SOURCE_CACHE_FULL with the numbers
   */
  async makeRoom(bytes: number, label: string): Promise<void> {
    if (bytes > this.maxBytes) throw this.full(bytes, 0, label);
    await this.sweepLeftOvers();
    let used = await this.usedBytes();
    if (used + bytes > this.maxBytes) {
      for (const key of await this.byLastUse()) {
        if (used + bytes <= this.maxBytes) break;
        if (await this.isHeld(key)) continue;
        await this.discard(key);
        used = await this.usedBytes();
      }
    }
    if (used + bytes > this.maxBytes) throw this.full(bytes, used, label);
    const disk = await statfs(this.root);
    const free = disk.bavail * disk.bsize;
    if (free < bytes) {
      throw new AppError('SOURCE_CACHE_FULL', `${label} needs ${bytes} bytes; the disk of the cache has ${free} free`, {
        metadata: { needed: String(bytes), free: String(free) },
      });
    }
  }

  /** Bytes of all contents and partial downloads. */
  async usedBytes(): Promise<number> {
    let bytes = 0;
    for (const folder of ['blobs', 'partial']) {
      for (const { size } of await this.entries(folder)) bytes += size;
    }
    return bytes;
  }

  /** What a failure of the disk means, with numbers where there are any. */
  diskError(error: unknown): AppError {
    if (error instanceof AppError) return error;
    const { code, syscall } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      return new AppError('SOURCE_CACHE_FULL', 'the disk of the cache is full', { cause: error });
    }
    if (syscall === undefined) return AppError.from(error);
    const message = `the cache of remote files cannot be used (${code}); --cache-dir names its folder`;
    return new AppError('INTERNAL', message, { cause: error });
  }

  private full(needed: number, used: number, label: string): AppError {
    return new AppError(
      'SOURCE_CACHE_FULL',
      `${label} needs ${needed} bytes; of the cache's ${this.maxBytes} bytes ${used} are taken by what is in use`,
      { metadata: { needed: String(needed), used: String(used), budget: String(this.maxBytes) } },
    );
  }

  /** Counts a holder; the first one marks the snapshot for other processes. */
  private async mark(key: string): Promise<() => void> {
    let entry = this.held.get(key);
    if (entry === undefined) {
      entry = { count: 0, mark: beginHeartbeat(join(this.root, 'marks', `${key}.${randomUUID()}`)) };
      this.held.set(key, entry);
    }
    entry.count += 1;
    const { mark } = entry;
    const counted = entry;
    await mark;
    let holds = true;
    return () => {
      if (!holds) return;
      holds = false;
      counted.count -= 1;
      if (counted.count > 0) return;
      this.held.delete(key);
      void mark.then((heartbeat) => heartbeat?.end()).catch(() => {});
    };
  }

  private async isHeld(key: string): Promise<boolean> {
    if (this.held.has(key)) return true;
    for (const name of await readdir(join(this.root, 'marks'))) {
      if (!name.startsWith(`${key}.`)) continue;
      if (await isAlive(join(this.root, 'marks', name))) return true;
      await rm(join(this.root, 'marks', name), { force: true });
    }
    return false;
  }

  private async byLastUse(): Promise<string[]> {
    const found: { key: string; used: number }[] = [];
    for (const key of await readdir(join(this.root, 'snapshots'))) {
      const used = await stat(join(this.root, 'snapshots', key, MANIFEST)).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      );
      found.push({ key, used });
    }
    return found.sort((x, y) => x.used - y.used).map(({ key }) => key);
  }

  private async entries(folder: string): Promise<{ path: string; size: number; links: number; ageMs: number }[]> {
    const found = [];
    for (const name of await readdir(join(this.root, folder))) {
      const path = join(this.root, folder, name);
      // Of a link itself: it is as old as it is, whatever it leads to.
      const entry = await lstat(path).catch(() => undefined);
      if (entry === undefined) continue;
      // Linking and unlinking change ctime only; content that was just taken in counts as new by either.
      const ageMs = Date.now() - Math.max(entry.mtimeMs, entry.ctimeMs);
      found.push({ path, size: entry.size, links: entry.nlink, ageMs });
    }
    return found;
  }

  /** Removes what processes left that ended in the middle. */
  private async sweepLeftOvers(): Promise<void> {
    for (const { path, links, ageMs } of await this.entries('blobs')) {
      if (links === 1 && ageMs > LEFT_OVER_MS) await rm(path, { force: true });
    }
    for (const [folder, age] of [
      ['tmp', LEFT_OVER_MS],
      ['partial', KEEP_PARTIAL_MS],
    ] as const) {
      for (const { path, ageMs } of await this.entries(folder)) {
        if (ageMs > age) await rm(path, { recursive: true, force: true });
      }
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Makes renames within a folder durable, where the platform can. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined);
  await handle?.sync().catch(() => {});
  await handle?.close();
}
