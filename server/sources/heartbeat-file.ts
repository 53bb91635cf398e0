/**
 * Files that say "somebody is at this": touched while their owner lives, ignored once they are no longer. They order
 * several processes that share a cache; nothing becomes wrong where one is overlooked, only work is done twice.
 */

import { randomUUID } from 'node:crypto';
import { rmSync } from 'node:fs';
import { link, open, rename, rm, stat, utimes } from 'node:fs/promises';

/** How often an owner touches its file. */
const BEAT_MS = 1000;
/** Silence after which an owner counts as gone: longer than any pause of a living event loop. */
export const STALE_MS = 6000;
/** How far ahead another machine's clock may be; what is later was touched before the clock was put back. */
const AHEAD_MS = 10 * 60_000;

/** Held by this process. */
const held = new Set<string>();

/** Removes all that this process holds, for its very end: nobody has to wait until they count as left. */
export function dropHeartbeats(): void {
  for (const path of held) {
    try {
      rmSync(path, { force: true });
    } catch {
      // It is ignored soon.
    }
  }
  held.clear();
}

/** A held file. */
export interface Heartbeat {
  /** Removes the file; idempotent. */
  end(): Promise<void>;
}

async function ageOf(path: string): Promise<number | undefined> {
  try {
    return Date.now() - (await stat(path)).mtimeMs;
  } catch {
    return undefined;
  }
}

/** True while the owner of the file lives. */
export async function isAlive(path: string): Promise<boolean> {
  const age = await ageOf(path);
  return age !== undefined && age < STALE_MS && age > -AHEAD_MS;
}

/** Makes the file and keeps it fresh; undefined where a living owner has it. */
export async function beginHeartbeat(path: string): Promise<Heartbeat | undefined> {
  for (;;) {
    try {
      await (await open(path, 'wx')).close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (await isAlive(path)) return undefined;
      await takeAway(path);
    }
  }
  held.add(path);
  const touch = () => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  };
  const timer = setInterval(touch, BEAT_MS).unref();
  return {
    end: async () => {
      clearInterval(timer);
      held.delete(path);
      await rm(path, { force: true });
    },
  };
}

/** Removes the file of an owner that is gone; of several that try, one does. */
async function takeAway(path: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  // Another process may have renewed it between the look and the rename: then it goes back.
  if (await isAlive(aside)) await link(aside, path).catch(() => {});
  await rm(aside, { force: true });
}
