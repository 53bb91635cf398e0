/** One piece of work for all that ask for it at the same time; it ends when nobody waits for it any more. */

/** Told how far the work is. */
export type OnProgress = (progress: { readonly bytes: number; readonly totalBytes: number }) => void;

interface Running<T> {
  readonly result: Promise<T>;
  readonly abort: AbortController;
  readonly listeners: Set<OnProgress>;
  waiters: number;
}

/** Work by key. */
export class SharedWork<T> {
  private readonly running = new Map<string, Running<T>>();

  /**
   * Joins the work of the key, or starts it. Aborting `signal` leaves it; with its last waiter the work is aborted.
   * @param start the work, with a signal of its own
   */
  async run(
    key: string,
    signal: AbortSignal,
    onProgress: OnProgress | undefined,
    start: (signal: AbortSignal, onProgress: OnProgress) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    let work = this.running.get(key);
    if (work === undefined || work.abort.signal.aborted) {
      work = this.begin(key, start);
    }
    const joined = work;
    joined.waiters += 1;
    if (onProgress !== undefined) joined.listeners.add(onProgress);
    let leave: (() => void) | undefined;
    const left = new Promise<never>((_, reject) => {
      leave = () => reject(signal.reason);
      signal.addEventListener('abort', leave, { once: true });
    });
    try {
      return await Promise.race([joined.result, left]);
    } finally {
      signal.removeEventListener('abort', leave!);
      if (onProgress !== undefined) joined.listeners.delete(onProgress);
      joined.waiters -= 1;
      if (joined.waiters === 0) joined.abort.abort(signal.aborted ? signal.reason : new Error('nobody waits'));
    }
  }

  /** Resolves when nothing runs any more. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.running.values()].map(({ result }) => result));
  }

  private begin(key: string, start: Parameters<SharedWork<T>['run']>[3]): Running<T> {
    const abort = new AbortController();
    const listeners = new Set<OnProgress>();
    const before = this.running.get(key)?.result;
    const result = (async () => {
      // Work that was aborted may still be closing its files.
      await before?.catch(() => {});
      return start(abort.signal, (progress) => {
        for (const listener of listeners) listener(progress);
      });
    })();
    const work: Running<T> = { result, abort, listeners, waiters: 0 };
    this.running.set(key, work);
    const forget = () => {
      if (this.running.get(key) === work) this.running.delete(key);
    };
    result.then(forget, forget);
    return work;
  }
}
