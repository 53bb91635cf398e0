/**
 * Files of remote sources, kept by content. `blobs/<sha256>` holds each content once; `snapshots/<key>/` holds what one
 * source had, as hard links to blobs, and appears only when it is complete. Several processes may share the folder.
 */
import { randomUUID } from 'node:crypto';
import { link, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeFolder } from '../folders.js';
import { cacheError } from './cache-error.js';
import { CacheRoom } from './cache-room.js';
import { SourceChanged } from './origin.js';
import {
  type CachedFile,
  checkFiles,
  FILES,
  MANIFEST,
  type Manifest,
  readManifest,
  SpoiltFile,
  writeManifest,
} from './snapshot-manifest.js';
import { SnapshotMarks } from './snapshot-marks.js';

/** A snapshot that stays while it is held. */
export interface HeldSnapshot {
  /** Folder with the files. */
  readonly folder: string;
  readonly files: readonly CachedFile[];
  readonly bytes: number;
  /** Idempotent. */
  release(): void;
}

/** The cache in one folder. */
export class ContentCache {
  /** Its bytes. */
  readonly room: CacheRoom;
  private readonly root: string;
  private readonly marks: SnapshotMarks;

  /**
   * @param root folder of its own, made when it is first used
   * @param maxBytes most bytes of all contents together
   */
  constructor(root: string, maxBytes: number) {
    this.root = root;
    this.marks = new SnapshotMarks(join(root, 'marks'));
    this.room = new CacheRoom(root, maxBytes, {
      byLastUse: () => this.byLastUse(),
      isHeld: (key) => this.marks.isHeld(key),
      discard: (key) => this.discard(key),
    });
  }

  /** Makes the folders. Throws what {@link cacheError} makes of it where that is not possible. */
  async prepare(): Promise<void> {
    for (const folder of ['blobs', 'snapshots', 'partial', 'locks', 'marks', 'tmp']) {
      try {
        makeFolder(join(this.root, folder));
      } catch (error) {
        throw cacheError(error);
      }
    }
  }

  /** Ends: nothing is held any more. */
  async close(): Promise<void> {
    await this.marks.close();
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
    const drop = await this.marks.hold(key);
    try {
      const manifest = await readManifest(folder);
      const checked = await checkFiles(folder, manifest);
      if (checked !== manifest) await this.replaceManifest(folder, checked);
      const bytes = checked.files.reduce((sum, { size }) => sum + size, 0);
      const now = new Date();
      await utimes(join(folder, MANIFEST), now, now);
      return { folder: join(folder, FILES), files: manifest.files, bytes, release: drop };
    } catch (error) {
      drop();
      if ((error as NodeJS.ErrnoException).code === 'ENOENT' && !(await exists(folder))) return undefined;
      // Other snapshots may have the same content: none that is fetched from now on takes it from there.
      if (error instanceof SpoiltFile) await rm(join(this.root, 'blobs', error.sha256), { force: true });
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
      const files: CachedFile[] = [];
      for (const file of manifest.files) {
        const { path, sha256 } = file;
        const place = join(work, FILES, path);
        await mkdir(dirname(place), { recursive: true, mode: 0o700 });
        await link(join(this.root, 'blobs', sha256), place).catch((error: NodeJS.ErrnoException) => {
          // Another process made room in this moment.
          throw error.code === 'ENOENT' ? new SourceChanged(manifest.source) : error;
        });
        files.push({ ...file, writtenMs: (await stat(place)).mtimeMs });
      }
      await writeManifest(join(work, MANIFEST), { ...manifest, files });
      await syncFolder(work);
      await rename(work, join(this.root, 'snapshots', key)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
      });
      await syncFolder(join(this.root, 'snapshots'));
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  private async replaceManifest(folder: string, manifest: Manifest): Promise<void> {
    const file = join(this.root, 'tmp', randomUUID());
    await writeManifest(file, manifest);
    await rename(file, join(folder, MANIFEST));
  }

  /** Forgets a snapshot and the contents that no other snapshot has. Folders that are open stay readable to the end. */
  async discard(key: string): Promise<void> {
    const aside = join(this.root, 'tmp', randomUUID());
    try {
      await rename(join(this.root, 'snapshots', key), aside);
    } catch {
      return;
    }
    const manifest = await readManifest(aside).catch(() => undefined);
    await rm(aside, { recursive: true, force: true });
    for (const { sha256 } of manifest?.files ?? []) {
      const blob = join(this.root, 'blobs', sha256);
      const found = await stat(blob).catch(() => undefined);
      if (found?.nlink === 1) await rm(blob, { force: true });
    }
  }

  /** Keys of all snapshots, the one used longest ago first. */
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
