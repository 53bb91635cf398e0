/** What a bench command is at, on standard error: standard output has the table alone. */

const startedAt = performance.now();

/** Tells what was just measured, or is about to be, after how many seconds. */
export function tell(text: string): void {
  console.error(`[${((performance.now() - startedAt) / 1000).toFixed(0).padStart(4)} s] ${text}`);
}
