/**
 * Bytes of the cache: how many its contents and partial downloads take, and what goes for new ones. Left-overs of processes
 * that ended go first, then snapshots that nobody holds, those used longest ago before others.
 */
import { lstat, readdir, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../errors.js';

/** What can leave the cache. */
export interface Removable {
  /** Keys of snapshots, the one used longest ago first. */
  byLastUse(): Promise<readonly string[]>;
  /** True while the snapshot must stay. */
  isHeld(key: string): Promise<boolean>;
  /** Forgets a snapshot and the contents that no other one has. */
  discard(key: string): Promise<void>;
}

interface Entry {
  readonly path: string;
  readonly size: number;
  readonly links: number;
  readonly ageMs: number;
}

/** Age after which left-overs of processes that ended count as such. */
const LEFT_OVER_MS = 60 * 60 * 1000;
const KEEP_PARTIAL_MS = 7 * 24 * 60 * 60 * 1000;

/** The budget of one cache. */
export class CacheRoom {
  private readonly root: string;
  private readonly maxBytes: number;
  private readonly snapshots: Removable;

  /** @param maxBytes most bytes of all contents together */
  constructor(root: string, maxBytes: number, snapshots: Removable) {
    this.root = root;
    this.maxBytes = maxBytes;
    this.snapshots = snapshots;
  }

  /**
   * Removes what was used longest ago until `bytes` more fit.
   * @param label what needs them
   * @throws AppError SOURCE_CACHE_FULL with the numbers
   */
  async make(bytes: number, label: string): Promise<void> {
    if (bytes > this.maxBytes) throw this.full(bytes, 0, label);
    await this.sweepLeftOvers();
    let used = await this.usedBytes();
    if (used + bytes > this.maxBytes) {
      for (const key of await this.snapshots.byLastUse()) {
        if (used + bytes <= this.maxBytes) break;
        if (await this.snapshots.isHeld(key)) continue;
        await this.snapshots.discard(key);
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

  private full(needed: number, used: number, label: string): AppError {
    return new AppError(
      'SOURCE_CACHE_FULL',
      `${label} needs ${needed} bytes; of the cache's ${this.maxBytes} bytes ${used} are taken by what is in use`,
      { metadata: { needed: String(needed), used: String(used), budget: String(this.maxBytes) } },
    );
  }

  private async entries(folder: string): Promise<Entry[]> {
    const found: Entry[] = [];
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
      ['marks', LEFT_OVER_MS],
      ['locks', LEFT_OVER_MS],
      ['partial', KEEP_PARTIAL_MS],
    ] as const) {
      for (const { path, ageMs } of await this.entries(folder)) {
        if (ageMs > age) await rm(path, { recursive: true, force: true });
      }
    }
  }
}
