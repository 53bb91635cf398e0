/** A call that can be cancelled by its caller and by its client. */
export interface RunningCall {
  readonly signal: AbortSignal;
  /** Aborts the signal. */
  cancel(reason?: unknown): void;
  /** Says that the call is over. */
  end(): void;
}

/** The calls of a client that run, so that closing it cancels them and nothing makes their connections again. */
export class RunningCalls {
  readonly #controllers = new Set<AbortController>();

  /** Begins a call; it is cancelled when `outer` aborts, too. */
  begin(outer: AbortSignal | undefined): RunningCall {
    const controller = new AbortController();
    const abort = (): void => controller.abort(outer?.reason);
    if (outer?.aborted) abort();
    else outer?.addEventListener('abort', abort, { once: true });
    this.#controllers.add(controller);
    return {
      signal: controller.signal,
      cancel: (reason) => controller.abort(reason),
      end: () => {
        this.#controllers.delete(controller);
        outer?.removeEventListener('abort', abort);
      },
    };
  }

  /** Cancels what runs; what begins later is not concerned. */
  cancelAll(): void {
    for (const controller of this.#controllers) controller.abort(new Error('the client was closed'));
    this.#controllers.clear();
  }
}
