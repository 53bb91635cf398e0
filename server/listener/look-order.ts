/** Of what is quiet, one in so many is due each time, but so many at least. */
const TURNS = 8;
const LEAST_QUIET = 256;

/**
 * What is to be looked at again and again: what is busy every time, the rest in turns. Ten thousand streams on which nothing
 * happens must cost next to nothing.
 */
export class LookOrder<T> {
  readonly #busy = new Set<T>();
  /** The next one first. */
  readonly #quiet = new Set<T>();

  /** Everything, in no order. */
  *[Symbol.iterator](): Iterator<T> {
    yield* this.#busy;
    yield* this.#quiet;
  }

  /** A new one is busy. */
  add(one: T): void {
    this.#busy.add(one);
  }

  delete(one: T): void {
    this.#busy.delete(one);
    this.#quiet.delete(one);
  }

  /** It is busy from now on, if it is there at all. */
  stir(one: T): void {
    if (this.#quiet.delete(one)) this.#busy.add(one);
  }

  /** What is to be looked at now; each of them is {@link settle}d then. */
  due(): T[] {
    const due = [...this.#busy];
    let left = Math.max(LEAST_QUIET, Math.ceil(this.#quiet.size / TURNS));
    for (const one of this.#quiet) {
      if (left === 0) break;
      left -= 1;
      due.push(one);
    }
    return due;
  }

  /** It was looked at, and has its turn again when all others had theirs. */
  settle(one: T, isQuiet: boolean): void {
    if (!isQuiet) this.stir(one);
    else if (this.#busy.delete(one) || this.#quiet.delete(one)) this.#quiet.add(one);
  }
}
