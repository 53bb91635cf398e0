/**
 * Those who wait for one load, each with a patience of its own. While the load waits for room, a caller may leave, or have
 * waited long enough; when nobody is left, the load gives up its place, so that it keeps nobody else waiting.
 */

/** How a caller waits. */
export interface CallerPatience {
  /** Aborts when the caller has left. */
  readonly signal?: AbortSignal | undefined;
  /** Most milliseconds that it waits for room, as many as a timer can; Infinity = until the signal aborts. */
  readonly waitMs?: number | undefined;
}

interface Caller {
  /** Begins to count the time, if that is limited. */
  arm(): void;
  disarm(): void;
}

/** The callers of one load. */
export class LoadWait {
  private readonly left = new AbortController();
  private readonly callers = new Set<Caller>();
  private tooLong: ((waitedMs: number) => Error) | undefined;

  /** Aborts, with what the last of them left for, once nobody waits any more. */
  get signal(): AbortSignal {
    return this.left.signal;
  }

  /**
   * The load waits for room while `room` is pending: that is what callers are patient about.
   * @param tooLong what is said to one who has waited long enough
   */
  async forRoom<T>(room: Promise<T>, tooLong: (waitedMs: number) => Error): Promise<T> {
    this.tooLong = tooLong;
    for (const caller of this.callers) caller.arm();
    try {
      return await room;
    } finally {
      this.tooLong = undefined;
      for (const caller of this.callers) caller.disarm();
    }
  }

  /** A caller waits along for what the load brings. Rejects as the load does, or when the caller has waited too long. */
  join<T>(done: Promise<T>, { signal, waitMs = Number.POSITIVE_INFINITY }: CallerPatience): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const leave = (reason: unknown): void => {
        settle();
        reject(reason);
        if (this.callers.size === 0) this.left.abort(reason);
      };
      const abort = (): void => leave(signal!.reason);
      const caller: Caller = {
        arm: () => {
          const { tooLong } = this;
          if (tooLong === undefined || waitMs === Number.POSITIVE_INFINITY) return;
          timer = setTimeout(() => leave(tooLong(waitMs)), waitMs).unref();
        },
        disarm: () => clearTimeout(timer),
      };
      const settle = (): void => {
        caller.disarm();
        this.callers.delete(caller);
        signal?.removeEventListener('abort', abort);
      };
      this.callers.add(caller);
      done.then(resolve, reject).finally(settle);
      caller.arm();
      signal?.addEventListener('abort', abort, { once: true });
      if (signal?.aborted) abort();
    });
  }
}
