/** What steps cost, as measured lately; the scheduler sizes prefill chunks by it. */

/** Milliseconds; undefined until something was measured. */
export interface Costs {
  readonly decodeMs?: number | undefined;
  readonly prefillMsPerToken?: number | undefined;
}

/** Weight of the newest measurement. */
const NEWEST = 0.25;
/** The first tokens of a chunk cost as much as reading the weights: a mean over fewer says little about a token. */
const FEWEST_TOKENS = 8;

/** Running means over the newest steps. */
export class StepCosts implements Costs {
  decodeMs: number | undefined;
  prefillMsPerToken: number | undefined;

  /** A decode step of all running rows took `ms`. */
  decoded(ms: number): void {
    this.decodeMs = mean(this.decodeMs, ms);
  }

  /** A prefill chunk of `tokens` took `ms`. */
  prefilled(tokens: number, ms: number): void {
    if (tokens >= FEWEST_TOKENS) this.prefillMsPerToken = mean(this.prefillMsPerToken, ms / tokens);
  }

  /** What was measured says nothing of the steps to come. */
  forget(): void {
    this.decodeMs = undefined;
    this.prefillMsPerToken = undefined;
  }
}

function mean(old: number | undefined, fresh: number): number {
  return old === undefined ? fresh : old + NEWEST * (fresh - old);
}
