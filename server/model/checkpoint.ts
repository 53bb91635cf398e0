/**
 * The weight files of a Hugging Face folder: one `model.safetensors`, or shards named by an index. Tensors are found by
 * name; their bytes stay on disk until somebody reads or maps them.
 */
import { realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { openSafetensors, type SafetensorsFile, type TensorInfo } from '../adapters/safetensors.js';
import { convertToFloat32, DTYPE_BITS, type FloatDtype, isFloatDtype } from '../adapters/tensor-dtype.js';
import { AppError } from '../errors.js';
import { readRegular } from '../regular-file.js';
import type { Blocks8 } from './quantise.js';

/** A file of weights, as far as its identity goes. */
export interface WeightFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<
    string,
    { readonly name: string; readonly dtype: string; readonly shape: readonly number[]; readonly offset: number }
  >;
  /** SHA-256 of a header that holds more than names and places (GGUF: tokenizer and settings). */
  readonly headerDigest?: string | undefined;
}

/** Where a tensor lies, for onnxruntime to map. */
export interface MappedTensor {
  /** File name within the checkpoint's folder. */
  readonly location: string;
  readonly offset: number;
  readonly length: number;
  readonly dtype: TensorInfo['dtype'];
}

/** A table as stored, row by row. */
export interface StoredRows {
  readonly bytes: Uint8Array;
  readonly rowBytes: number;
  /** Writes the row with these bytes as float32 to `target` from `at` on. */
  widen(row: Uint8Array, target: Float32Array, at: number): void;
}

/** A tensor as stored, of a type that converts to float32. */
export interface StoredFloats {
  /** Little-endian, aligned to the elements' size. */
  readonly bytes: Uint8Array;
  readonly dtype: FloatDtype;
}

/** Weights, by the names of Hugging Face's model code. */
export interface Checkpoint {
  /** Folder that all weight files lie in (after symbolic links), for onnxruntime's external data. */
  readonly folder: string;
  readonly files: readonly WeightFile[];
  has(name: string): boolean;
  /** Throws MODEL_INVALID when absent or of another shape. */
  expect(name: string, shape: readonly number[]): void;
  /** Undefined where the values do not lie in a file in a form that onnxruntime reads. */
  mapped(name: string): MappedTensor | undefined;
  readFloat32(name: string, shape?: readonly number[]): Promise<Float32Array>;
  /** The tensor as stored, where it is stored as floats; absent = nothing is. */
  readStored?(name: string): Promise<StoredFloats | undefined>;
  /** Throws MODEL_INVALID when absent or not of a float type. */
  readRows(name: string): Promise<StoredRows>;
  /** Whether two tensors hold the same, byte for byte; absent = nobody asks. */
  areEqual?(name: string, other: string): Promise<boolean>;
  /** The weight in 8-bit blocks, where it is stored so. */
  readBlocks?(name: string): Promise<Blocks8 | undefined>;
  /** Tensors that differ from the files (merged ones), as float32 in the stored orientation; absent = none. */
  readonly changed?: ReadonlyMap<string, Float32Array> | undefined;
  close(): Promise<void>;
}

/** A tensor and the file it lies in. */
interface StoredTensor {
  readonly info: TensorInfo;
  readonly file: SafetensorsFile;
}

/** Float32 values that are held in memory, as if they were stored. */
export function heldFloats({ buffer, byteOffset, byteLength }: Float32Array): StoredFloats {
  return { bytes: new Uint8Array(buffer, byteOffset, byteLength), dtype: 'F32' };
}

/** Rows of float32 values that are held in memory. */
export function heldRows(values: Float32Array, width: number): StoredRows {
  return {
    bytes: heldFloats(values).bytes,
    rowBytes: width * 4,
    widen: (row, target, at) => convertToFloat32(row, 'F32', target, at),
  };
}

/** Opens the weights of a model folder. Throws MODEL_INVALID naming what is missing or broken. */
export async function openCheckpoint(modelDir: string): Promise<Checkpoint> {
  const paths = await weightFiles(modelDir);
  const files: SafetensorsFile[] = [];
  try {
    for (const path of paths)
      files.push(await openSafetensors(path, { reason: 'MODEL_INVALID', label: basename(path) }));
  } catch (error) {
    await Promise.all(files.map((file) => file.close()));
    throw error;
  }
  const byName = new Map<string, StoredTensor>();
  for (const file of files) {
    for (const info of file.tensors.values()) byName.set(canonicalName(info.name), { info, file });
  }
  const find = (name: string): StoredTensor => {
    const tensor = byName.get(name);
    if (tensor === undefined) throw new AppError('MODEL_INVALID', `${modelDir}: the weights hold no tensor ${name}`);
    return tensor;
  };
  const expect = (name: string, shape: readonly number[]): StoredTensor => {
    const tensor = find(name);
    if (tensor.info.shape.length !== shape.length || tensor.info.shape.some((dim, i) => dim !== shape[i])) {
      throw new AppError(
        'MODEL_INVALID',
        `${basename(tensor.file.path)}: tensor ${name} has shape [${tensor.info.shape}], config.json makes it [${shape}]`,
      );
    }
    return tensor;
  };
  const readStored = async (name: string): Promise<StoredFloats | undefined> => {
    const { file, info } = find(name);
    const { dtype } = info;
    return isFloatDtype(dtype) ? { bytes: await file.readRaw(info.name), dtype } : undefined;
  };
  return {
    folder: dirname(paths[0]!),
    files,
    expect,
    has: (name) => byName.has(name),
    mapped: (name) => {
      const { file, info } = find(name);
      return { location: basename(file.path), offset: info.offset, length: info.bytes, dtype: info.dtype };
    },
    readFloat32: async (name, shape) => {
      const { file, info } = shape === undefined ? find(name) : expect(name, shape);
      return file.readFloat32(info.name);
    },
    readStored,
    readRows: async (name) => {
      const { info } = find(name);
      const stored = await readStored(name);
      if (stored === undefined) throw new AppError('MODEL_INVALID', `tensor ${info.name} is stored as ${info.dtype}`);
      const { bytes, dtype } = stored;
      return {
        bytes,
        rowBytes: (info.shape.at(-1)! * DTYPE_BITS[dtype]) / 8,
        widen: (row, target, at) => convertToFloat32(row, dtype, target, at),
      };
    },
    areEqual: (name, other) => sameBytes(find(name), find(other)),
    close: async () => {
      await Promise.all(files.map((file) => file.close()));
    },
  };
}

/** Bytes of each of two tensors that are compared at a time. */
const COMPARED_BYTES = 4 * 1024 * 1024;

async function sameBytes(one: StoredTensor, other: StoredTensor): Promise<boolean> {
  const { dtype, shape, bytes } = one.info;
  if (dtype !== other.info.dtype || String(shape) !== String(other.info.shape)) return false;
  for (let at = 0; at < bytes; at += COMPARED_BYTES) {
    const length = Math.min(COMPARED_BYTES, bytes - at);
    const [first, second] = [Buffer.allocUnsafe(length), Buffer.allocUnsafe(length)];
    await one.file.readInto(first, one.info.offset + at);
    await other.file.readInto(second, other.info.offset + at);
    if (!first.equals(second)) return false;
  }
  return true;
}

/**
 * Names under which tensors were once saved, as they are called today: GPT-2 and OPT from the headless model, without
 * `transformer.` and `model.`; GPT-NeoX with another name for its head; Gemma 3 with the text model outside of the body.
 */
function canonicalName(name: string): string {
  if (/^(h\.\d|wte\.|wpe\.|ln_f\.)/.test(name)) return `transformer.${name}`;
  if (name.startsWith('decoder.')) return `model.${name}`;
  const text = /^language_model\.(model\.|lm_head\.)(.*)/s.exec(name);
  if (text !== null) return text[1] === 'model.' ? `model.language_model.${text[2]}` : `lm_head.${text[2]}`;
  return name === 'embed_out.weight' ? 'lm_head.weight' : name;
}

/** Real paths of the weight files, all in one folder. */
async function weightFiles(modelDir: string): Promise<string[]> {
  const single = join(modelDir, 'model.safetensors');
  if (await exists(single)) return [await realpath(single)];
  const indexPath = join(modelDir, 'model.safetensors.index.json');
  if (!(await exists(indexPath))) {
    throw new AppError(
      'MODEL_INVALID',
      `${modelDir}: neither model.safetensors nor model.safetensors.index.json is there (other weight formats are not read)`,
    );
  }
  let names: string[];
  try {
    const index = JSON.parse((await readRegular(indexPath)).toString()) as { weight_map: Record<string, string> };
    names = [...new Set(Object.values(index.weight_map))].sort();
  } catch (cause) {
    throw new AppError('MODEL_INVALID', `${indexPath}: not a weights index: ${(cause as Error).message}`, { cause });
  }
  const paths: string[] = [];
  for (const name of names) {
    if (typeof name !== 'string' || name.includes('/') || name.includes(sep) || name === '..') {
      throw new AppError('MODEL_INVALID', `${indexPath}: shard ${JSON.stringify(name)} is not a file of this folder`);
    }
    const path = join(modelDir, name);
    if (!(await exists(path))) throw new AppError('MODEL_INVALID', `${modelDir}: shard ${name} is missing`);
    paths.push(await realpath(path));
  }
  if (paths.length === 0) throw new AppError('MODEL_INVALID', `${indexPath}: names no shards`);
  const folders = new Set(paths.map((path) => dirname(path)));
  if (folders.size > 1)
    throw new AppError('MODEL_INVALID', `${modelDir}: the shards lie in different folders: ${[...folders].join(', ')}`);
  return paths;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isFile(),
    () => false,
  );
}
