/** Who is using which engine right now, so that an engine ends only after the answers that run on it. */

/** Counts uses by the engine (or any other object) that they need. */
export class ModelUses {
  readonly #counts = new Map<object, number>();
  readonly #waiting = new Map<object, Set<() => void>>();

  /** Notes a use. @returns ends it; idempotent */
  enter(engine: object): () => void {
    this.#counts.set(engine, (this.#counts.get(engine) ?? 0) + 1);
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      const left = this.#counts.get(engine)! - 1;
      if (left > 0) {
        this.#counts.set(engine, left);
        return;
      }
      this.#counts.delete(engine);
      for (const wake of this.#waiting.get(engine) ?? []) wake();
      this.#waiting.delete(engine);
    };
  }

  /** Resolves when nothing uses the engine, at the latest after `withinMs`. @returns true when nothing uses it */
  async idle(engine: object, withinMs: number): Promise<boolean> {
    if (!this.#counts.has(engine)) return true;
    await new Promise<void>((resolve) => {
      const waiting = this.#waiting.get(engine) ?? new Set();
      this.#waiting.set(engine, waiting);
      const timer = setTimeout(() => {
        waiting.delete(wake);
        resolve();
      }, withinMs);
      const wake = () => {
        clearTimeout(timer);
        resolve();
      };
      waiting.add(wake);
    });
    return !this.#counts.has(engine);
  }
}
