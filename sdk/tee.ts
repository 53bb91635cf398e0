/**
 * Splits an iteration in two that each see every item. Items that one side has read and the other has not are kept;
 * the source is left when both sides have left.
 */
export function tee<T>(source: AsyncIterator<T>): [AsyncIterableIterator<T>, AsyncIterableIterator<T>] {
  const queues: Promise<IteratorResult<T>>[][] = [[], []];
  let open = 2;
  const side = (mine: number): AsyncIterableIterator<T> => {
    let left = false;
    return {
      next() {
        if (left) return Promise.resolve({ done: true, value: undefined });
        const waiting = queues[mine]!.shift();
        if (waiting !== undefined) return waiting;
        const result = source.next();
        result.catch(() => {}); // the other side may never ask for it
        queues[1 - mine]!.push(result);
        return result;
      },
      async return() {
        if (!left) {
          left = true;
          open -= 1;
          if (open === 0) await source.return?.();
        }
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  };
  return [side(0), side(1)];
}
