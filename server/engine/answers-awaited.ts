/** Who waits for what an engine thread says about an adapter: it answers the questions about a digest in their order. */

/** Somebody who waits for an answer. Settling it twice does nothing, so it may stay in line when it is given up. */
export interface Awaited<T> {
  resolve(value: T): void;
  reject(error: Error): void;
  /** Nobody waits for it any more. */
  abandoned?: boolean;
}

/** Lines of those who wait for answers of one kind, by digest. */
export class AnswersAwaited<T> {
  readonly #lines = new Map<string, Awaited<T>[]>();

  get size(): number {
    return this.#lines.size;
  }

  /** Everybody who stands in a line, given up or not. */
  get all(): Awaited<T>[] {
    return [...this.#lines.values()].flat();
  }

  has(digest: string): boolean {
    return this.#lines.has(digest);
  }

  /** What the thread will answer to the question that is sent now. */
  answerTo(digest: string): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#lines.set(digest, [...(this.#lines.get(digest) ?? []), { resolve, reject }]);
    });
  }

  /** Whom an answer that has come is for; undefined = nobody asked. */
  next(digest: string): Awaited<T> | undefined {
    const [first, ...others] = this.#lines.get(digest) ?? [];
    if (others.length > 0) this.#lines.set(digest, others);
    else this.#lines.delete(digest);
    return first;
  }

  /** No answer will come any more. */
  clear(): void {
    this.#lines.clear();
  }
}
