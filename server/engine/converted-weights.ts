/**
 * Converted weights, kept in a folder so that the next start need not convert again. A file's name is what it was made
 * from; its last 4 bytes are a CRC-32 over that name and the contents. Whatever does not agree is not used, so a torn,
 * altered or renamed file costs a conversion and nothing else. (Against whoever may write to the folder no digest helps:
 * they would write that, too.) Writers write a file of their own and rename it, so that
 * servers that start together never see each other's half.
 */
import { createHash, randomUUID } from 'node:crypto';
import { type FileHandle, open, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { fileState } from '../adapters/file-state.js';
import { makeFolder } from '../folders.js';
import { fingerprintOf } from '../model/fingerprint.js';
import type { ModelFolder } from '../model/model-folder.js';
import { READ_WITHOUT_WAITING } from '../regular-file.js';

const CHECKSUM_BYTES = 4;
const READ_BYTES = 4 << 20;
/** A temporary file this old belongs to a process that ended while it wrote. */
const STALE_MS = 3_600_000;

/** A kept file: a folder without symbolic links, and a name in it. */
export interface KeptFile {
  readonly folder: string;
  readonly name: string;
  /** Bytes before the checksum. */
  readonly bytes: number;
  /** What the file system said of the file when its contents were known to be right. */
  readonly state: string;
}

/** A kept file that a model's weights are mapped from. */
export interface KeptWeights {
  readonly file: KeptFile;
  /** True: it has their packed form, too. */
  readonly shared: boolean;
}

/**
 * Name of the file for a model in one form.
 * @param form what the bytes are, and a number that changes whenever the conversion does
 * @param environment what else they depend on; '' = nothing
 */
export async function convertedName(folder: ModelFolder, form: string, environment = ''): Promise<string> {
  const hash = createHash('sha256').update(`${form}${environment}:${await fingerprintOf(folder)}`);
  // Servers that took the embedding for such a head have kept conversions of it.
  if (folder.spec.head.apart) hash.update(':head apart');
  // The fingerprint samples the weights; a file that was edited in place also has another time.
  for (const { path } of folder.checkpoint.files) {
    const { size, mtimeMs } = await stat(path);
    hash.update(`:${size}:${mtimeMs}`);
  }
  return `${hash.digest('hex')}.${form}`;
}

/**
 * The kept file of that name, if it is complete and unaltered.
 * @param known a kept file of this process: where it is that one, and nobody has touched it since, it is not read again
 */
export async function findConverted(dir: string, name: string, known?: KeptFile): Promise<KeptFile | undefined> {
  try {
    const folder = await realpath(dir);
    const handle = await open(join(folder, name), READ_WITHOUT_WAITING);
    try {
      // Before the contents: whoever changes them meanwhile changes the state.
      const stats = await handle.stat({ bigint: true });
      if (!stats.isFile()) return undefined;
      const state = fileState(stats);
      if (known?.folder === folder && known.name === name && known.state === state) return known;
      const bytes = Number(stats.size) - CHECKSUM_BYTES;
      let sum = crc32(name);
      for await (const piece of readPieces(handle, 0, bytes)) sum = crc32(piece, sum);
      for await (const kept of readPieces(handle, bytes, CHECKSUM_BYTES))
        if (!checksumBytes(sum).equals(kept)) return undefined;
      return { folder, name, bytes, state };
    } finally {
      await handle.close();
    }
  } catch {
    return undefined;
  }
}

/** A stretch of a file, in pieces that are good until the next one. Throws where the file ends before the stretch. */
export async function* readPieces(
  handle: FileHandle,
  from: number,
  length: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, length));
  for (let at = from; at < from + length; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, from + length - at), at);
    if (bytesRead === 0) throw new Error(`the file ends before its byte ${from + length}`);
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}

/** Contents of a file to keep, in pieces that are good until the next one. */
export type Pieces = Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** Weights that cannot be kept. */
export interface Unkept {
  /** Their packed form, which is made of kept ones, or the converted weights themselves. */
  readonly form: 'converted' | 'packed';
  readonly why: string;
  /** In the words of whoever was to write them, where those say less. */
  readonly cause?: string | undefined;
}

/** Told of weights that cannot be kept. */
export type OnUnkept = (unkept: Unkept) => void;

/**
 * Keeps the pieces under that name. Undefined where that cannot be done: a cache that is full or read-only stops nobody.
 * @param onUnkept told what the file system says then
 */
export async function keepConverted(
  dir: string,
  name: string,
  pieces: Pieces,
  onUnkept?: OnUnkept,
): Promise<KeptFile | undefined> {
  const temporary = join(dir, `${name}.${randomUUID()}${UNFINISHED.file}`);
  try {
    makeFolder(dir);
    await removeStale(dir);
    let sum = crc32(name);
    let bytes = 0;
    const handle = await open(temporary, 'wx', 0o600);
    try {
      for await (const piece of pieces) {
        sum = crc32(piece, sum);
        bytes += piece.length;
        await handle.writeFile(piece);
      }
      await handle.writeFile(checksumBytes(sum));
    } finally {
      await handle.close();
    }
    const { ino } = await stat(temporary, { bigint: true });
    await rename(temporary, join(dir, name));
    const stats = await stat(join(dir, name), { bigint: true });
    // Another writer's file, made at the same time, is as good; but nobody here has read it.
    return { folder: await realpath(dir), name, bytes, state: stats.ino === ino ? fileState(stats) : '' };
  } catch (error) {
    onUnkept?.({ form: 'converted', why: (error as Error).message });
    await rm(temporary, { force: true }).catch(() => {});
    return undefined;
  }
}

/** As it is written: big-endian. */
function checksumBytes(sum: number): Buffer {
  const bytes = Buffer.alloc(CHECKSUM_BYTES);
  bytes.writeUInt32BE(sum);
  return bytes;
}

/** What writers write before it has its name: files end so, folders begin so. */
export const UNFINISHED = { file: '.tmp', folder: 'packing.' } as const;

/** Removes what killed writers have left in the folder. */
export async function removeStale(dir: string): Promise<void> {
  for (const entry of await readdir(dir)) {
    if (!entry.endsWith(UNFINISHED.file) && !entry.startsWith(UNFINISHED.folder)) continue;
    const path = join(dir, entry);
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && Date.now() - found.mtimeMs > STALE_MS) await rm(path, { force: true, recursive: true });
  }
}
