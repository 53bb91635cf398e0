/** What a process takes, as Linux tells it. */
import { readFileSync } from 'node:fs';

/** Resident memory. [MiB] */
export function residentMiB(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1024;
}

/** Processor time since its start, all threads together. [ms] */
export function processorMs(pid: number): number {
  // Behind the name in brackets, which may hold spaces: state, then numbers; user and system time are the 12th and 13th.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  // Linux counts in hundredths of a second for every program.
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
