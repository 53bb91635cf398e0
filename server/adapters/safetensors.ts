/**
 * Reading safetensors files by range: the header once, then single tensors. A file is never read as a whole, so
 * models larger than memory can be described, and mapped elsewhere by {@link TensorInfo.offset}.
 */
import { basename } from 'node:path';
import { AppError, type ErrorReason } from '../errors.js';
import type { OpenHandle } from './file-calls.js';
import { openRegular } from './open-regular.js';
import type { Recent } from './recent.js';
import {
  checkHeaderLength,
  MAX_HEADER_BYTES,
  parseSafetensorsHeader,
  type SafetensorsHeader,
  type TensorInfo,
} from './safetensors-header.js';
import { convertToFloat32, DTYPE_BITS, isFloatDtype } from './tensor-dtype.js';

export type { TensorInfo } from './safetensors-header.js';

/** Bytes read at a time while converting; bounds what a conversion holds besides its result. */
const CHUNK_BYTES = 8 * 1024 * 1024;

/** An open safetensors file. Reads may run concurrently. */
export interface SafetensorsFile {
  readonly path: string;
  /** By name, in the order of the data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The tensor's bytes as stored, in a buffer of their own. Throws an AppError: no such tensor, file cut off. */
  readRaw(name: string): Promise<Buffer>;
  /** Fills `target` from byte `position` of the file on. Throws an AppError where the file ends before. */
  readInto(target: Uint8Array, position: number): Promise<void>;
  /** The tensor as float32 (from F32, F16, BF16, F64). Throws an AppError: also for an integer or 8-bit dtype. */
  readFloat32(name: string): Promise<Float32Array>;
  close(): Promise<void>;
}

/** How faults are reported. */
export interface OpenSafetensorsOptions {
  /** Reason of the AppErrors: `MODEL_INVALID` (default) or `ADAPTER_INVALID`. */
  readonly reason?: ErrorReason | undefined;
  /** Name of the file in messages; default its last path part. */
  readonly label?: string | undefined;
  /** Longest header read; default 100 MB. */
  readonly maxHeaderBytes?: number | undefined;
  /** Headers that need not be parsed again. */
  readonly headers?: Recent<SafetensorsHeader> | undefined;
}

class OpenFile implements SafetensorsFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
  private readonly handle: OpenHandle;
  private readonly fail: (what: string, cause?: unknown) => AppError;

  constructor(
    path: string,
    handle: OpenHandle,
    header: Pick<SafetensorsFile, 'tensors' | 'metadata'>,
    fail: (what: string, cause?: unknown) => AppError,
  ) {
    this.path = path;
    this.handle = handle;
    this.tensors = header.tensors;
    this.metadata = header.metadata;
    this.fail = fail;
  }

  private find(name: string): TensorInfo {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw this.fail(`there is no tensor ${JSON.stringify(name)}`);
    return tensor;
  }

  async readInto(target: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const length = Math.min(target.length - done, CHUNK_BYTES);
      const { bytesRead } = await this.handle.read(target, done, length, position + done);
      if (bytesRead === 0) throw this.cutOff(position + done);
      done += bytesRead;
    }
  }

  private cutOff(end: number): AppError {
    const cut = [...this.tensors.values()].find(({ offset, bytes }) => offset <= end && end < offset + bytes);
    return this.fail(`tensor ${JSON.stringify(cut?.name ?? '')}: the file became shorter while it was read`);
  }

  async readRaw(name: string): Promise<Buffer> {
    const tensor = this.find(name);
    const buffer = Buffer.allocUnsafeSlow(tensor.bytes);
    await this.readInto(buffer, tensor.offset);
    return buffer;
  }

  async readFloat32(name: string): Promise<Float32Array> {
    const { dtype, bytes, offset } = this.find(name);
    if (!isFloatDtype(dtype)) {
      throw this.fail(`tensor ${JSON.stringify(name)} is stored as ${dtype}; F32, F16, BF16 or F64 would be right`);
    }
    const size = DTYPE_BITS[dtype] / 8;
    const values = new Float32Array(bytes / size);
    if (dtype === 'F32') {
      await this.readInto(new Uint8Array(values.buffer), offset);
      return values;
    }
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, bytes));
    for (let at = 0; at < bytes; at += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, bytes - at));
      await this.readInto(part, offset + at);
      convertToFloat32(part, dtype, values, at / size);
    }
    return values;
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/**
 * Opens a safetensors file and checks its header against the file (see {@link parseSafetensorsHeader}).
 * @throws AppError with the given reason and a message that names file, tensor and fault
 */
export async function openSafetensors(path: string, options: OpenSafetensorsOptions = {}): Promise<SafetensorsFile> {
  const label = options.label ?? basename(path);
  const fail = (what: string, cause?: unknown) =>
    new AppError(options.reason ?? 'MODEL_INVALID', `${label}: ${what}`, { cause });
  const { handle, size } = await openRegular(path, fail);
  try {
    const prefix = Buffer.alloc(Math.min(8, size));
    await handle.read(prefix, 0, prefix.length, 0);
    const length = checkHeaderLength(prefix, size, options.maxHeaderBytes ?? MAX_HEADER_BYTES);
    const json = Buffer.allocUnsafeSlow(length);
    let done = 0;
    while (done < length) {
      const { bytesRead } = await handle.read(json, done, length - done, 8 + done);
      if (bytesRead === 0) throw new Error('the file became shorter while it was read');
      done += bytesRead;
    }
    const parse = () => parseSafetensorsHeader(json, size);
    return new OpenFile(path, handle, options.headers?.of(json, size, parse) ?? parse(), fail);
  } catch (error) {
    await handle.close();
    throw fail((error as Error).message, error);
  }
}
