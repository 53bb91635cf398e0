/** What a cgroup leaves of the machine: the common case is a container that may use little of a large one. */
import { readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

/**
 * Cores whose time this process may have, at least 1. More threads than that would stand still together for the rest of each
 * period; later versions of Node count so themselves.
 * @param root see {@link memoryLimit}
 */
export function coresAtHand(root = '/'): number {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(processorLimit(root) ?? Number.POSITIVE_INFINITY)));
}

/**
 * Memory that this process may have, in bytes.
 * @param root see {@link memoryLimit}
 */
export function memoryAtHand(root = '/'): number {
  return Math.min(totalmem(), memoryLimit(root) ?? Number.POSITIVE_INFINITY);
}

/**
 * The least of the limits of the process's cgroup and of those that hold it, of either version, in bytes; undefined = none.
 * @param root root of the file system; tests give a folder
 */
export function memoryLimit(root = '/'): number | undefined {
  const second = folders(root, '', 'sys/fs/cgroup').map((folder) => read(join(folder, 'memory.max')));
  const first = folders(root, 'memory', 'sys/fs/cgroup/memory').map((folder) =>
    read(join(folder, 'memory.limit_in_bytes')),
  );
  // Version 1 says "no limit" with the largest number of whole pages.
  return least([...second, ...first].map(Number).filter((bytes) => bytes > 0 && bytes < 2 ** 60));
}

/** The same of the time on processors: quota by period, in cores. */
export function processorLimit(root = '/'): number | undefined {
  const second = folders(root, '', 'sys/fs/cgroup').map((folder) => {
    const [quota, period] = (read(join(folder, 'cpu.max')) ?? '').trim().split(' ').map(Number);
    return quota! / period!;
  });
  const first = folders(root, 'cpu', 'sys/fs/cgroup/cpu').map(
    (folder) => Number(read(join(folder, 'cpu.cfs_quota_us'))) / Number(read(join(folder, 'cpu.cfs_period_us'))),
  );
  return least([...second, ...first].filter((cores) => cores > 0 && Number.isFinite(cores)));
}

/** Folders of the process's cgroup and of those above it. @param controller '' = version 2 */
function folders(root: string, controller: string, mount: string): string[] {
  const line = (read(join(root, 'proc/self/cgroup')) ?? '')
    .split('\n')
    .map((text) => text.split(':'))
    .find(([, controllers]) => (controllers ?? '').split(',').includes(controller));
  if (line === undefined) return [];
  const found: string[] = [];
  for (let path = line.slice(2).join(':'); ; path = dirname(path)) {
    found.push(join(root, mount, path));
    if (dirname(path) === path) return found;
  }
}

const least = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : Math.min(...values);

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
