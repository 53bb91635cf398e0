/** The machine as far as the system tells: processor, instruction sets, memory, and what a cgroup leaves of them. */
import { readFileSync } from 'node:fs';
import { cpus, freemem, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

/** Sizes in bytes. */
export interface Machine {
  readonly system: string;
  readonly architecture: string;
  readonly processor: {
    readonly model: string;
    readonly cores: number;
    /** Cores' worth of time that a cgroup allows; absent = all. */
    readonly limit?: number | undefined;
    /** Those that matrix products use; absent = the system does not tell. */
    readonly instructionSets?: readonly string[] | undefined;
  };
  readonly memory: {
    readonly total: number;
    /** What a new process can get, caches that would be given up included. */
    readonly free: number;
    /** Of the process's cgroup and those above it; absent = none. */
    readonly limit?: number | undefined;
  };
  /** Files and connections that a process may have open; absent = no limit, or the system does not tell. */
  readonly openFiles?: number | undefined;
}

/** Names as the kernel has them, x64 and ARM. */
const INSTRUCTION_SETS = new Set(
  (
    'sse4_2 avx avx2 fma f16c avx_vnni avx512f avx512bw avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 ' +
    'asimd asimdhp asimddp i8mm bf16 sve sve2 svei8mm sme'
  ).split(' '),
);

/**
 * @param platform and architecture as Node names them
 * @param root root of the file system; tests give a folder
 */
export function describeMachine(platform: string, architecture: string, root = '/'): Machine {
  const all = cpus();
  const info = read(join(root, 'proc/cpuinfo'));
  const flags = info?.match(/^(?:flags|Features)\s*:\s*(.*)$/m)?.[1];
  const available = read(join(root, 'proc/meminfo'))?.match(/^MemAvailable:\s*(\d+) kB$/m)?.[1];
  return {
    system: `${platform} ${release()}`,
    architecture,
    processor: {
      model: all[0]?.model.trim() || 'unknown',
      cores: all.length,
      limit: processorLimit(root),
      instructionSets: flags?.split(/\s+/).filter((flag) => INSTRUCTION_SETS.has(flag)),
    },
    memory: {
      total: totalmem(),
      free: available === undefined ? freemem() : Number(available) * 1024,
      limit: memoryLimit(root),
    },
    openFiles: openFiles(root),
  };
}

function openFiles(root: string): number | undefined {
  const limits = read(join(root, 'proc/self/limits'));
  const soft = limits?.match(/^Max open files\s+(\d+)/m)?.[1];
  return soft === undefined ? undefined : Number(soft);
}

/** The least of the limits of the process's cgroup and of those that hold it, of either version. */
function memoryLimit(root: string): number | undefined {
  const second = folders(root, '', 'sys/fs/cgroup').map((folder) => read(join(folder, 'memory.max')));
  const first = folders(root, 'memory', 'sys/fs/cgroup/memory').map((folder) =>
    read(join(folder, 'memory.limit_in_bytes')),
  );
  // Version 1 says "no limit" with the largest number of whole pages.
  return least([...second, ...first].map(Number).filter((bytes) => bytes > 0 && bytes < 2 ** 60));
}

/** Quota by period, in cores. */
function processorLimit(root: string): number | undefined {
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
