/** What a bench command is at, on standard error: standard output has the table alone. */

const startedAt = performance.now();

/** Tells what was just measured, or is about to be, after how many seconds. */
export function tell(text: string): void {
  console.error(`[${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s] ${text}`);
}

/** {@link tell}s a load of a round. @param round from 0 of `rounds`; -1 is the one that warms up */
export function tellRound(round: number, rounds: number, load: string): void {
  tell(`${round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`}: ${load}`);
}
