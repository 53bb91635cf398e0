/** Tells whoever wants to know that something has changed; what, they look up themselves. */

/** Listeners and their notification. */
export class Changes {
  readonly #listeners = new Set<() => void>();

  /** Calls `listener` at every change until the returned function is called; it must not throw. */
  on(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells all listeners, now. */
  notify(): void {
    for (const listener of this.#listeners) listener();
  }
}
