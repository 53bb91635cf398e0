/** The machine as far as the system tells: processor, instruction sets, memory, and what a cgroup leaves of them. */
import { readFileSync } from 'node:fs';
import { cpus, freemem, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { memoryLimit, processorLimit } from '../cgroup.js';

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

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}
