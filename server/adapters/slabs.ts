/**
 * Memory for an adapter's matrices: a few large pieces that hold all of them one behind the other. They cross threads as a
 * few buffers, where a buffer for each of some hundred matrices costs both threads and the garbage collector milliseconds.
 */

/** Most bytes of a piece that several matrices share. */
const SLAB_BYTES = 64 * 1024 * 1024;

/** The memory of one adapter. */
export class Slabs {
  private buffer = new ArrayBuffer(0);
  private used = 0;
  /** Bytes that are still expected. */
  private left: number;

  /** @param lengths of all matrices that will be taken; wrong ones cost memory or buffers, nothing else */
  constructor(lengths: readonly number[]) {
    this.left = lengths.reduce((sum, length) => sum + inLines(length), 0);
  }

  /** An array of `length` floats whose values are anything: every one of them is to be written. */
  take(length: number): Float32Array {
    const bytes = inLines(length);
    if (this.used + bytes > this.buffer.byteLength) {
      this.buffer = unwritten(Math.max(bytes, Math.min(this.left, SLAB_BYTES)));
      this.used = 0;
    }
    const values = new Float32Array(this.buffer, this.used, length);
    this.used += bytes;
    this.left = Math.max(0, this.left - bytes);
    return values;
  }
}

/** Bytes of `length` floats in whole cache lines, so that every matrix begins with one as the first one does. */
function inLines(length: number): number {
  return Math.ceil(length / 16) * 64;
}

/** An array of its own, to be written in full like those of {@link Slabs.take}. */
export function unwrittenFloats(length: number): Float32Array {
  return new Float32Array(unwritten(length * 4));
}

/** Memory as it is found: what is written in full at once need not be cleared before. */
function unwritten(bytes: number): ArrayBuffer {
  return Buffer.allocUnsafeSlow(bytes).buffer as ArrayBuffer;
}
