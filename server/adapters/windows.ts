/** Buffers that a file's bytes pass through: few, and used again and again, so that they stay in the processor's cache. */

/** Bytes of a window: fits the second-level cache of today's processors, and is long enough for a disk. */
export const WINDOW_BYTES = 1 << 20;

/** What an adapter is read with. */
export class Windows {
  private readonly free: Uint8Array[] = [];
  private readonly waiting: ((window: Uint8Array) => void)[] = [];
  private readonly allocate: () => Uint8Array;
  private left: number;

  /**
   * @param count most windows; at least 2, so that one is filled while another is worked on
   * @param allocate gives a window's memory
   */
  constructor(count: number, allocate: (bytes: number) => Uint8Array = (bytes) => new Uint8Array(bytes)) {
    this.left = count;
    this.allocate = () => allocate(WINDOW_BYTES);
  }

  /** A window that nobody else has; waits for one to come back where all are out. */
  async take(): Promise<Uint8Array> {
    const free = this.free.pop();
    if (free !== undefined) return free;
    if (this.left > 0) {
      this.left -= 1;
      return this.allocate();
    }
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  /** Gives a window back, once. */
  give(window: Uint8Array): void {
    const next = this.waiting.shift();
    if (next === undefined) this.free.push(window);
    else next(window);
  }
}
