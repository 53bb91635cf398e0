/**
 * Which snapshots are in use: by this process, counted, and by others that share the cache, told by files that their
 * owners keep fresh. A snapshot in use is not removed to make room.
 */
import { randomUUID } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beginHeartbeat, type Heartbeat, isAlive } from './heartbeat-file.js';

interface Held {
  count: number;
  /** The file for other processes. */
  readonly mark: Promise<Heartbeat | undefined>;
}

/** The marks in one folder. */
export class SnapshotMarks {
  private readonly folder: string;
  private readonly held = new Map<string, Held>();
  /** Marks that are being taken away. */
  private readonly ending = new Set<Promise<void>>();

  constructor(folder: string) {
    this.folder = folder;
  }

  /**
   * Counts a holder; the first one marks the snapshot for other processes. Throws what the file system throws; then nothing
   * is held.
   * @returns ends it; idempotent
   */
  async hold(key: string): Promise<() => void> {
    let entry = this.held.get(key);
    if (entry === undefined) {
      entry = { count: 0, mark: beginHeartbeat(join(this.folder, `${key}.${randomUUID()}`)) };
      this.held.set(key, entry);
    }
    entry.count += 1;
    const { mark } = entry;
    const counted = entry;
    let holds = true;
    const drop = (): void => {
      if (!holds) return;
      holds = false;
      counted.count -= 1;
      if (counted.count > 0 || this.held.get(key) !== counted) return;
      this.held.delete(key);
      const end = mark.then((heartbeat) => heartbeat?.end()).catch(() => {});
      this.ending.add(end);
      void end.finally(() => this.ending.delete(end));
    };
    try {
      await mark;
    } catch (error) {
      drop();
      throw error;
    }
    return drop;
  }

  /** Takes all marks of this process away: it ends, and what it still holds is open. */
  async close(): Promise<void> {
    const marks = [...this.held.values()].map(({ mark }) => mark.then((heartbeat) => heartbeat?.end()));
    this.held.clear();
    await Promise.allSettled([...marks, ...this.ending]);
  }

  /** True where this process or a living one holds the snapshot; marks of others go. */
  async isHeld(key: string): Promise<boolean> {
    if (this.held.has(key)) return true;
    for (const name of await readdir(this.folder)) {
      if (!name.startsWith(`${key}.`)) continue;
      if (await isAlive(join(this.folder, name))) return true;
      await rm(join(this.folder, name), { force: true });
    }
    return false;
  }
}
