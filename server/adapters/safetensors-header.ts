/**
 * The header of a safetensors file: 8 bytes little-endian length, then a JSON object of
 * `name -> { dtype, shape, data_offsets: [begin, end] }` and an optional `__metadata__` of strings, then the data
 * (https://github.com/huggingface/safetensors#format). Everything that a hostile or broken file could lie about is
 * checked here, before a byte of data is read.
 */
import { isJsonObject, type JsonObject, type JsonValue, parseStrictJson } from './strict-json.js';
import { DTYPE_BITS, isTensorDtype, type TensorDtype } from './tensor-dtype.js';

/** One tensor of a file. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: TensorDtype;
  /** Row-major; empty for a scalar. */
  readonly shape: readonly number[];
  /** Absolute position of its first byte in the file, for reading or mapping it in place. */
  readonly offset: number;
  readonly bytes: number;
}

/** A checked header. */
export interface SafetensorsHeader {
  /** By name, in the order of the data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Longest header that is read, as in the reference implementation. */
export const MAX_HEADER_BYTES = 100_000_000;

const MAX_DIMENSIONS = 8;
const quote = (text: string) => JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}...` : text);

function isSize(value: JsonValue | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/**
 * Checks the length prefix against the file.
 * @returns bytes of the JSON header
 * @throws Error that says what is wrong
 */
export function checkHeaderLength(prefix: Uint8Array, fileBytes: number, maxHeaderBytes: number): number {
  if (fileBytes === 0) throw new Error('the file is empty');
  if (prefix.length < 8) throw new Error(`the file has ${fileBytes} bytes, too few for a header`);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(fileBytes - 8)) {
    throw new Error(`the header claims ${length} bytes, but the file has only ${fileBytes - 8} after the length field`);
  }
  if (length > BigInt(maxHeaderBytes)) {
    throw new Error(`the header claims ${length} bytes; at most ${maxHeaderBytes} are read`);
  }
  return Number(length);
}

function parseTensor(name: string, entry: JsonValue, dataStart: number, dataBytes: number): TensorInfo {
  const fault = (what: string) => new Error(`tensor ${quote(name)}: ${what}`);
  if (!isJsonObject(entry)) throw fault('its header entry is not an object');
  for (const key of Object.keys(entry)) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets') throw fault(`unknown header field ${quote(key)}`);
  }
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !isTensorDtype(dtype)) {
    throw fault(
      `dtype ${quote(typeof dtype === 'string' ? dtype : (JSON.stringify(dtype) ?? 'nothing'))} is not one of ${Object.keys(DTYPE_BITS).join(', ')}`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) throw fault('shape is not a list of integers >= 0');
  if (shape.length > MAX_DIMENSIONS) throw fault(`shape has ${shape.length} dimensions, more than ${MAX_DIMENSIONS}`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    throw fault('data_offsets is not a pair of integers >= 0');
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw fault(`data_offsets [${begin}, ${end}] run backwards`);
  if (end > dataBytes) {
    throw fault(`data_offsets end at ${end}, but the file has ${dataBytes} bytes of data (is it cut off?)`);
  }
  let bits: number = DTYPE_BITS[dtype];
  for (const dim of shape) bits *= dim;
  if (!Number.isSafeInteger(bits)) throw fault(`shape [${shape.join(', ')}] is too large`);
  if (bits !== (end - begin) * 8) {
    throw fault(
      `shape [${shape.join(', ')}] of ${dtype} needs ${bits / 8} bytes, but data_offsets give ${end - begin}`,
    );
  }
  return { name, dtype, shape, offset: dataStart + begin, bytes: end - begin };
}

function parseMetadata(value: JsonValue): Map<string, string> {
  if (!isJsonObject(value)) throw new Error('__metadata__ is not an object');
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw new Error(`__metadata__ value of ${quote(key)} is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

/**
 * Parses and checks a header: known dtypes, sane shapes, offsets inside the file, shape x dtype = bytes, and the
 * tensors covering the data exactly, without overlap or hole.
 * @param json the header's bytes (without the length prefix)
 * @throws Error that names the tensor and the fault
 */
export function parseSafetensorsHeader(json: Uint8Array, fileBytes: number): SafetensorsHeader {
  let root: JsonObject;
  try {
    const value = parseStrictJson(json);
    if (!isJsonObject(value)) throw new SyntaxError('it is not an object');
    root = value;
  } catch (error) {
    throw new Error(`the header is not a JSON object: ${(error as Error).message}`);
  }
  const dataStart = 8 + json.length;
  const dataBytes = fileBytes - dataStart;
  let metadata = new Map<string, string>();
  const list: TensorInfo[] = [];
  for (const [name, entry] of Object.entries(root)) {
    if (name === '__metadata__') metadata = parseMetadata(entry);
    else list.push(parseTensor(name, entry, dataStart, dataBytes));
  }
  list.sort((x, y) => x.offset - y.offset || x.bytes - y.bytes);
  const tensors = new Map<string, TensorInfo>();
  let position = dataStart;
  let previous = 'the header';
  for (const tensor of list) {
    if (tensor.offset < position) throw new Error(`tensors ${previous} and ${quote(tensor.name)} share bytes`);
    if (tensor.offset > position) {
      throw new Error(
        `${tensor.offset - position} bytes between ${previous} and ${quote(tensor.name)} belong to no tensor`,
      );
    }
    position = tensor.offset + tensor.bytes;
    previous = quote(tensor.name);
    tensors.set(tensor.name, tensor);
  }
  if (position !== fileBytes) {
    throw new Error(`${fileBytes - position} bytes after ${previous} belong to no tensor`);
  }
  return { tensors, metadata };
}
