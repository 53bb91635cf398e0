/**
 * Reading GGUF files by range: the header once, then single tensors. As with safetensors, no file is ever read as a
 * whole.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { AppError, type ErrorReason } from '../../errors.js';
import type { OpenHandle } from '../file-calls.js';
import { openRegular } from '../open-regular.js';
import { dequantise, READABLE_TYPES } from './dequantise.js';
import { type GgufHeader, type GgufTensor, type GgufValue, parseGgufHeader } from './gguf-header.js';
import { NeedMoreBytes } from './header-cursor.js';

/** Bytes read at a time while dequantising. */
const CHUNK_BYTES = 8 * 1024 * 1024;
/** First read of a header; more only where a vocabulary needs it. */
const FIRST_BYTES = 256 * 1024;
/** Longest header: some million tokens. */
const MAX_HEADER_BYTES = 128 * 1024 * 1024;

/** Some of a tensor's rows (its outermost dimension): from, and to without it. */
export type RowRange = readonly [from: number, to: number];

/** An open GGUF file. Reads may run concurrently. */
export interface GgufFile {
  readonly path: string;
  /** Name in messages. */
  readonly label: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** SHA-256 of the header's bytes, hex. */
  readonly headerDigest: string;
  /** The tensor's bytes as stored, or those of some rows. Throws an AppError: no such tensor, file cut off. */
  readRaw(name: string, rows?: RowRange): Promise<Buffer>;
  /** The tensor, or some rows of it, as float32, dequantised. Throws an AppError: also for a type that is not read. */
  readFloat32(name: string, rows?: RowRange): Promise<Float32Array>;
  /** The error for something that is wrong with this file. */
  fail(what: string, cause?: unknown): AppError;
  close(): Promise<void>;
}

/** How faults are reported and how much is read. */
export interface OpenGgufOptions {
  /** Reason of the AppErrors: `MODEL_INVALID` (default) or `ADAPTER_INVALID`. */
  readonly reason?: ErrorReason | undefined;
  readonly maxHeaderBytes?: number | undefined;
}

class OpenGguf implements GgufFile {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: ReadonlyMap<string, GgufTensor>;

  constructor(
    readonly path: string,
    readonly label: string,
    readonly headerDigest: string,
    private readonly handle: OpenHandle,
    header: GgufHeader,
    readonly fail: GgufFile['fail'],
  ) {
    this.metadata = header.metadata;
    this.tensors = header.tensors;
  }

  private find(name: string, rows?: RowRange): GgufTensor {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw this.fail(`there is no tensor ${JSON.stringify(name)}`);
    if (rows === undefined) return tensor;
    // Rows are whole blocks.
    const rowBytes = tensor.bytes / tensor.shape[0]!;
    return { ...tensor, offset: tensor.offset + rows[0] * rowBytes, bytes: (rows[1] - rows[0]) * rowBytes };
  }

  private async fill(target: Uint8Array, position: number, name: string): Promise<void> {
    for (let done = 0; done < target.length; ) {
      const length = Math.min(target.length - done, CHUNK_BYTES);
      const { bytesRead } = await this.handle.read(target, done, length, position + done);
      if (bytesRead === 0) throw this.fail(`tensor ${JSON.stringify(name)}: the file became shorter while it was read`);
      done += bytesRead;
    }
  }

  async readRaw(name: string, rows?: RowRange): Promise<Buffer> {
    const { bytes, offset } = this.find(name, rows);
    const buffer = Buffer.allocUnsafeSlow(bytes);
    await this.fill(buffer, offset, name);
    return buffer;
  }

  async readFloat32(name: string, rows?: RowRange): Promise<Float32Array> {
    const { type, bytes, offset } = this.find(name, rows);
    if (!READABLE_TYPES.includes(type.name)) {
      throw this.fail(
        `tensor ${JSON.stringify(name)} is stored as ${type.name}; ${READABLE_TYPES.join(', ')} are read`,
      );
    }
    const { blockBytes, blockElements } = type;
    const values = new Float32Array((bytes / blockBytes) * blockElements);
    const chunk = Buffer.allocUnsafeSlow(Math.min(bytes, Math.floor(CHUNK_BYTES / blockBytes) * blockBytes));
    for (let at = 0; at < bytes; at += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, bytes - at));
      await this.fill(part, offset + at, name);
      dequantise(part, type, values, (at / blockBytes) * blockElements);
    }
    return values;
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** Reads the header in windows that grow until it fits. */
async function readHeader(handle: OpenHandle, size: number, most: number): Promise<[GgufHeader, string]> {
  let wanted = FIRST_BYTES;
  for (;;) {
    const bytes = Buffer.allocUnsafeSlow(Math.min(size, wanted, most));
    for (let done = 0; done < bytes.length; ) {
      const { bytesRead } = await handle.read(bytes, done, bytes.length - done, done);
      if (bytesRead === 0) throw new Error('the file became shorter while it was read');
      done += bytesRead;
    }
    try {
      const header = parseGgufHeader(bytes, size);
      return [header, createHash('sha256').update(bytes.subarray(0, header.headerBytes)).digest('hex')];
    } catch (error) {
      if (!(error instanceof NeedMoreBytes)) throw error;
      if (error.atLeast > most) throw new Error(`the header is longer than ${most} bytes, the most that is read`);
      wanted = Math.max(error.atLeast, bytes.length * 4);
    }
  }
}

/**
 * Opens a GGUF file and checks its header against the file (see {@link parseGgufHeader}).
 * @throws AppError with the given reason and a message that names file, tensor and fault
 */
export async function openGguf(path: string, options: OpenGgufOptions = {}): Promise<GgufFile> {
  const label = basename(path);
  const fail = (what: string, cause?: unknown) =>
    new AppError(options.reason ?? 'MODEL_INVALID', `${label}: ${what}`, { cause });
  const { handle, size } = await openRegular(path, fail);
  try {
    const [header, digest] = await readHeader(handle, size, options.maxHeaderBytes ?? MAX_HEADER_BYTES);
    return new OpenGguf(path, label, digest, handle, header, fail);
  } catch (error) {
    await handle.close();
    throw fail((error as Error).message, error);
  }
}
