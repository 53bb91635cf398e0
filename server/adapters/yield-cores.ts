/** Lets the threads that answer requests go first. */
import { getPriority, platform, setPriority } from 'node:os';

/**
 * Where cores are scarce such a thread gets what others leave, and a tenth of a core besides: with less, whoever waits for
 * an adapter beside busy streams waits for seconds, and the streams feel it no less.
 */
const NICENESS = 10;

/** To be called by a thread whose work can wait. */
export function yieldCores(): void {
  // On Linux a priority is a thread's; elsewhere it would be the whole process's.
  if (platform() !== 'linux') return;
  try {
    // A server that was started with less gives nothing back, and most users may not take it.
    if (getPriority(0) < NICENESS) setPriority(0, NICENESS);
  } catch {
    // Where a sandbox forbids it, the work is done beside the others'.
  }
}
