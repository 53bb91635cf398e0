/** Work on a device's memory that is asked for at once and carried out in order; steps wait for it. */
export class GpuQueue {
  #tail: Promise<void> = Promise.resolve();

  /** Adds work. It must not throw. */
  add(work: () => Promise<void>): void {
    this.#tail = this.#tail.then(work);
  }

  /** Resolves when everything that was added has been done. */
  drained(): Promise<void> {
    return this.#tail;
  }
}
