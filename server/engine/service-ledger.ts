/**
 * How much of the engine each selection had lately, in milliseconds of steps: what fairness goes by. Old service fades,
 * so an adapter that used an idle machine is not held to it for long.
 */

/** What the scheduler asks. */
export interface Service {
  /** Milliseconds that rows of the selection had lately. */
  had(key: string): number;
  /** Milliseconds that a row takes from start to end, on average. */
  readonly perRow: number;
}

/** A row as far as the account goes. */
export interface ServedRow {
  readonly key: string;
  /** What it had so far. */
  servedMs: number;
}

/** Engine time after which half of a service is forgotten. */
const HALF_LIFE_MS = 30_000;
/** Weight of the newest row in the mean. */
const NEWEST = 0.1;

/** Keeps the account. */
export class ServiceLedger implements Service {
  /** By key; scaled by `#scale`, so that fading touches one number. */
  readonly #had = new Map<string, number>();
  #scale = 1;
  perRow = 0;

  had(key: string): number {
    return (this.#had.get(key) ?? 0) / this.#scale;
  }

  /** A step of `ms` worked for these rows, in equal parts. */
  worked(rows: readonly ServedRow[], ms: number): void {
    const keys = rows.map(({ key }) => key);
    this.charge(keys, ms);
    for (const row of rows) row.servedMs += ms / rows.length;
  }

  /** The same for rows that are known by their selections only. */
  charge(keys: readonly string[], ms: number): void {
    this.#scale *= 2 ** (ms / HALF_LIFE_MS);
    const part = (ms / keys.length) * this.#scale;
    for (const key of keys) this.#had.set(key, (this.#had.get(key) ?? 0) + part);
    if (this.#scale > 2 ** 20) this.#rescale();
  }

  /** A row ended that had `ms` in all. */
  ended(ms: number): void {
    this.perRow = this.perRow === 0 ? ms : this.perRow + NEWEST * (ms - this.perRow);
  }

  /** Forgets what has faded, and starts the scale anew. */
  #rescale(): void {
    for (const [key, value] of this.#had) {
      const faded = value / this.#scale;
      if (faded < 1) this.#had.delete(key);
      else this.#had.set(key, faded);
    }
    this.#scale = 1;
  }
}
