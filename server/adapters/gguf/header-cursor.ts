/**
 * Reads little-endian values from the beginning of a file of which only a part may be in memory. Running off that part
 * is told apart from running off the file: the first asks for more bytes, the second is a fault.
 */

/** Thrown where the bytes at hand end before the file does; reading starts anew with at least `atLeast` bytes. */
export class NeedMoreBytes extends Error {
  constructor(readonly atLeast: number) {
    super(`needs ${atLeast} bytes`);
  }
}

/** A position in the first bytes of a file. */
export class HeaderCursor {
  position = 0;
  readonly #view: DataView;

  /**
   * @param bytes the beginning of the file
   * @param fileBytes size of the whole file
   */
  constructor(
    readonly bytes: Buffer,
    readonly fileBytes: number,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Moves past `count` bytes and returns where they begin. `what` names them in the error. */
  take(count: number, what: string): number {
    const start = this.position;
    if (count > this.fileBytes - start) {
      throw new Error(`${what} at byte ${start} needs ${count} bytes, the file ends after ${this.fileBytes - start}`);
    }
    if (count > this.bytes.length - start) throw new NeedMoreBytes(start + count);
    this.position = start + count;
    return start;
  }

  u8(what: string): number {
    return this.#view.getUint8(this.take(1, what));
  }

  i8(what: string): number {
    return this.#view.getInt8(this.take(1, what));
  }

  u16(what: string): number {
    return this.#view.getUint16(this.take(2, what), true);
  }

  i16(what: string): number {
    return this.#view.getInt16(this.take(2, what), true);
  }

  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  i32(what: string): number {
    return this.#view.getInt32(this.take(4, what), true);
  }

  f32(what: string): number {
    return this.#view.getFloat32(this.take(4, what), true);
  }

  f64(what: string): number {
    return this.#view.getFloat64(this.take(8, what), true);
  }

  /** A 64-bit integer as a number; beyond 2^53 (either way) it is a fault. */
  u64(what: string): number {
    return this.#safe(this.#view.getBigUint64(this.take(8, what), true), what);
  }

  /** As {@link u64}, signed. */
  i64(what: string): number {
    return this.#safe(this.#view.getBigInt64(this.take(8, what), true), what);
  }

  /** A text with its length in front. */
  text(what: string, maxBytes: number): string {
    const length = this.u64(`the length of ${what}`);
    if (length > maxBytes) throw new Error(`${what} is ${length} bytes long; at most ${maxBytes} are read`);
    const start = this.take(length, what);
    return this.bytes.toString('utf8', start, start + length);
  }

  #safe(value: bigint, what: string): number {
    const number = Number(value);
    if (!Number.isSafeInteger(number)) throw new Error(`${what} is ${value}, which no real file has`);
    return number;
  }
}
