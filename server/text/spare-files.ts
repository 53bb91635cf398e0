/** File descriptors that are kept for a moment when no other may be left: clients take what there is, by their connections. */
import { closeSync, openSync } from 'node:fs';
import { devNull } from 'node:os';

/** A reserve of descriptors. */
export class SpareFiles {
  readonly #count: number;
  readonly #held: number[] = [];

  /** @param count how many are kept */
  constructor(count: number) {
    this.#count = count;
    this.#take();
  }

  /**
   * Runs `work` with that many descriptors free.
   * @throws the system's error where they are not to be had
   */
  lend<T>(work: () => T): T {
    const error = this.#held.length < this.#count ? this.#take() : undefined;
    if (error !== undefined) throw error;
    for (const descriptor of this.#held.splice(0)) closeSync(descriptor);
    try {
      return work();
    } finally {
      this.#take();
    }
  }

  /** Fills the reserve. @returns what the system says where it gives no more */
  #take(): Error | undefined {
    try {
      while (this.#held.length < this.#count) this.#held.push(openSync(devNull, 'r'));
      return undefined;
    } catch (error) {
      return error as Error;
    }
  }
}
