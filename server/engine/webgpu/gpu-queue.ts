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

/** The work of one owner of memory. After a failure nobody knows what it holds, so that what follows is skipped. */
export class GpuWork {
  readonly #queue: GpuQueue;
  #failure: Error | undefined;

  constructor(queue: GpuQueue) {
    this.#queue = queue;
  }

  /** The first failure; absent = none. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Throws the first failure. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  add(work: () => Promise<void>): void {
    this.#queue.add(async () => {
      if (this.#failure !== undefined) return;
      try {
        await work();
      } catch (error) {
        this.#failure = error as Error;
      }
    });
  }

  /** Ends it, behind what was added, whether that failed or not; whoever asks for more is told why. */
  end(why: string, last: () => void): void {
    this.#queue.add(async () => {
      last();
      this.#failure ??= new Error(why);
    });
  }
}
