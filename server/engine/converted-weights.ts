/**
 * Converted weights, kept in a folder so that the next start need not convert again. A file's name is what it was made
 * from; its last 32 bytes are a SHA-256 over that name and the contents. Whatever does not agree is not used, so a torn,
 * altered or renamed file costs a conversion and nothing else. Writers write a file of their own and rename it, so that
 * servers that start together never see each other's half.
 */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fingerprintOf } from '../model/fingerprint.js';
import type { ModelFolder } from '../model/model-folder.js';

const DIGEST_BYTES = 32;
const READ_BYTES = 4 << 20;
/** A temporary file this old belongs to a process that ended while it wrote. */
const STALE_MS = 3_600_000;

/** A kept file: a folder without symbolic links, and a name in it. */
export interface KeptFile {
  readonly folder: string;
  readonly name: string;
  /** Bytes before the digest. */
  readonly bytes: number;
}

/**
 * Name of the file for a model in one form.
 * @param form what the bytes are, and a number that changes whenever the conversion does
 * @param environment what else they depend on; '' = nothing
 */
export async function convertedName(folder: ModelFolder, form: string, environment = ''): Promise<string> {
  const hash = createHash('sha256').update(`${form}${environment}:${await fingerprintOf(folder)}`);
  // The fingerprint samples the weights; a file that was edited in place also has another time.
  for (const { path } of folder.checkpoint.files) {
    const { size, mtimeMs } = await stat(path);
    hash.update(`:${size}:${mtimeMs}`);
  }
  return `${hash.digest('hex')}.${form}`;
}

/** The kept file of that name, if it is complete and unaltered. */
export async function findConverted(dir: string, name: string): Promise<KeptFile | undefined> {
  try {
    const handle = await open(join(dir, name));
    try {
      const length = (await handle.stat()).size - DIGEST_BYTES;
      const hash = createHash('sha256').update(name);
      const buffer = Buffer.allocUnsafe(READ_BYTES);
      for (let at = 0; at < length; ) {
        const { bytesRead } = await handle.read(buffer, 0, Math.min(READ_BYTES, length - at), at);
        if (bytesRead === 0) return undefined;
        hash.update(buffer.subarray(0, bytesRead));
        at += bytesRead;
      }
      const { bytesRead } = await handle.read(buffer, 0, DIGEST_BYTES, length);
      if (bytesRead !== DIGEST_BYTES || !hash.digest().equals(buffer.subarray(0, DIGEST_BYTES))) return undefined;
      return { folder: await realpath(dir), name, bytes: length };
    } finally {
      await handle.close();
    }
  } catch {
    return undefined;
  }
}

/** Contents of a file to keep, in pieces. */
export type Pieces = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Keeps the pieces under that name. Undefined where that cannot be done: a cache that is full or read-only stops nobody. */
export async function keepConverted(dir: string, name: string, pieces: Pieces): Promise<KeptFile | undefined> {
  const temporary = join(dir, `${name}.${randomUUID()}.tmp`);
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await removeStale(dir);
    const hash = createHash('sha256').update(name);
    let bytes = 0;
    const handle = await open(temporary, 'wx', 0o600);
    try {
      for await (const piece of pieces) {
        hash.update(piece);
        bytes += piece.length;
        await handle.writeFile(piece);
      }
      await handle.writeFile(hash.digest());
    } finally {
      await handle.close();
    }
    await rename(temporary, join(dir, name));
    return { folder: await realpath(dir), name, bytes };
  } catch {
    await rm(temporary, { force: true }).catch(() => {});
    return undefined;
  }
}

async function removeStale(dir: string): Promise<void> {
  for (const entry of await readdir(dir)) {
    if (!entry.endsWith('.tmp')) continue;
    const path = join(dir, entry);
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && Date.now() - found.mtimeMs > STALE_MS) await rm(path, { force: true, recursive: true });
  }
}
