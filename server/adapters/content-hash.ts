/** A running SHA-256 over what makes an adapter, in this thread or in another ({@link ./hash-thread.ts}). */
import { createHash } from 'node:crypto';

/** A hash under way. */
export interface ContentHash {
  /** Takes texts and bytes in their order. Resolves when it no longer needs the bytes, which must not change until then. */
  update(parts: readonly (string | Uint8Array)[]): Promise<void>;
  /** The digest of all that was taken, lower-case hex; nothing may follow. */
  finish(): Promise<string>;
}

/** Most bytes given to the hash at once (its limit is 2 GiB). */
const UPDATE_BYTES = 64 * 1024 * 1024;

/** Hashes where it is called. */
export class OwnHash implements ContentHash {
  private readonly hash = createHash('sha256');

  async update(parts: readonly (string | Uint8Array)[]): Promise<void> {
    for (const part of parts) {
      if (typeof part === 'string') this.hash.update(part);
      else
        for (let at = 0; at < part.length; at += UPDATE_BYTES) this.hash.update(part.subarray(at, at + UPDATE_BYTES));
    }
  }

  async finish(): Promise<string> {
    return this.hash.digest('hex');
  }
}
