/**
 * What was made of bytes that often come again: adapters of one recipe have the same config and the same header, and one
 * that is read again has its own. Equal bytes mean the same thing, so it is made once.
 */

/** How many are kept, and of what length at most. [bytes] */
const KEPT = 8;
const MOST_BYTES = 512 * 1024;

interface One<T> {
  readonly bytes: Uint8Array;
  readonly size: number;
  readonly made: T;
}

/** Things by the bytes that they were made of, those of the last few. */
export class Recent<T> {
  /** The last used one first. */
  private readonly kept: One<T>[] = [];

  /**
   * What was made of equal bytes before, or what `make` makes of these.
   * @param bytes must not change any more
   * @param size a number that counts as well as the bytes
   */
  of(bytes: Uint8Array, size: number, make: () => T): T {
    const at = this.kept.findIndex((one) => one.size === size && Buffer.compare(one.bytes, bytes) === 0);
    const [known] = at < 0 ? [] : this.kept.splice(at, 1);
    const one = known ?? { bytes, size, made: make() };
    if (bytes.length <= MOST_BYTES) this.kept.unshift(one);
    if (this.kept.length > KEPT) this.kept.pop();
    return one.made;
  }
}
