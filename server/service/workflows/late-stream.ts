/** A stream that is there before what makes it has begun: whoever reads it waits for that. */

/**
 * @param made what is read once it is there; its failure is the reader's
 * @param leave called when the reader leaves, so that nothing is made any more for nobody
 */
export function lateStream<T>(made: Promise<AsyncIterable<T>>, leave: () => void): AsyncIterableIterator<T> {
  const iterator = made.then((events) => events[Symbol.asyncIterator]());
  // Told to whoever reads, which may be nobody yet.
  iterator.catch(() => {});
  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next: async () => (await iterator).next(),
    return: async () => {
      leave();
      await (await iterator.catch(() => undefined))?.return?.();
      return { done: true, value: undefined };
    },
  };
}
