/** The digests of a stream: its SHA-256, and whatever else its origin names. */
import { createHash, type Hash } from 'node:crypto';
import type { KnownDigests } from './origin.js';

/** Digests over bytes that come in pieces. */
export class ContentHash {
  private readonly sha256 = createHash('sha256');
  private readonly md5: Hash = createHash('md5');
  private readonly git: Hash;

  /** @param size bytes of the whole content, which git hashes first */
  constructor(size: number) {
    this.git = createHash('sha1').update(`blob ${size}\0`);
  }

  add(bytes: Uint8Array, known: KnownDigests): void {
    this.sha256.update(bytes);
    // MD5 may be asked for only once the first answer is there, so it is left out only where another digest is known.
    if (known.sha256 === undefined && known.gitSha1 === undefined) this.md5.update(bytes);
    if (known.gitSha1 !== undefined) this.git.update(bytes);
  }

  /** Ends it: the SHA-256, and what differs from the known digests (undefined: nothing). */
  finish(known: KnownDigests): { readonly sha256: string; readonly wrong: string | undefined } {
    const sha256 = this.sha256.digest('hex');
    const found = { sha256, md5: this.md5.digest('hex'), gitSha1: this.git.digest('hex') };
    for (const kind of ['sha256', 'gitSha1', 'md5'] as const) {
      const expected = known[kind];
      if (expected === undefined) continue;
      if (expected === found[kind]) break;
      return { sha256, wrong: `its ${kind} is ${found[kind]}, ${expected} was announced` };
    }
    return { sha256, wrong: undefined };
  }
}
