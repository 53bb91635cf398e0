/** Lets the threads that answer requests go first. */
import { platform, setPriority } from 'node:os';

/** The lowest there is. Where cores are scarce such a thread gets what others leave, and a hundredth of a core besides. */
const NICENESS = 19;

/** To be called by a thread whose work can wait. */
export function yieldCores(): void {
  // On Linux a priority is a thread's; elsewhere it would be the whole process's.
  if (platform() === 'linux') setPriority(0, NICENESS);
}
