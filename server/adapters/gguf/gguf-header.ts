/**
 * The header of a GGUF file: metadata, then names, shapes, types and places of the tensors
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Nothing in it is believed: counts, lengths and places are
 * checked against the file before anything is made of them.
 */
import { GGML_TYPES, type GgmlType } from './ggml-types.js';
import { HeaderCursor } from './header-cursor.js';

/** An array of numbers or booleans (0 and 1); 64-bit integers lie in a Float64Array. */
export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array;

/** A metadata value. 64-bit integers are numbers. */
export type GgufValue = number | boolean | string | readonly string[] | GgufNumbers;

/** One tensor of the file. */
export interface GgufTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** Outermost first, as PyTorch has it: a linear is [out, in]. (The file has it the other way round.) */
  readonly shape: readonly number[];
  /** From the beginning of the file. */
  readonly offset: number;
  readonly bytes: number;
}

/** A checked header. */
export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** By name, in the order of the file. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
  /** Bytes that metadata and tensor table take; data begin at the next multiple of the alignment. */
  readonly headerBytes: number;
}

const MAX_METADATA = 65_536;
const MAX_TENSORS = 262_144;
const MAX_KEY_BYTES = 65_535;
const MAX_NAME_BYTES = 1_024;
const MAX_DIMENSIONS = 4;
const MAX_ALIGNMENT = 1_048_576;

/** A scalar type: its size in the file, what an array of it is kept in, and its reader. */
interface Scalar {
  readonly bytes: number;
  readonly list: new (length: number) => GgufNumbers;
  read(cursor: HeaderCursor, what: string): number;
}

/** Scalar types by id; 8 is a text and 9 an array. */
const SCALARS: Readonly<Record<number, Scalar>> = {
  0: { bytes: 1, list: Uint8Array, read: (cursor, what) => cursor.u8(what) },
  1: { bytes: 1, list: Int8Array, read: (cursor, what) => cursor.i8(what) },
  2: { bytes: 2, list: Uint16Array, read: (cursor, what) => cursor.u16(what) },
  3: { bytes: 2, list: Int16Array, read: (cursor, what) => cursor.i16(what) },
  4: { bytes: 4, list: Uint32Array, read: (cursor, what) => cursor.u32(what) },
  5: { bytes: 4, list: Int32Array, read: (cursor, what) => cursor.i32(what) },
  6: { bytes: 4, list: Float32Array, read: (cursor, what) => cursor.f32(what) },
  7: { bytes: 1, list: Uint8Array, read: readBool },
  10: { bytes: 8, list: Float64Array, read: (cursor, what) => cursor.u64(what) },
  11: { bytes: 8, list: Float64Array, read: (cursor, what) => cursor.i64(what) },
  12: { bytes: 8, list: Float64Array, read: (cursor, what) => cursor.f64(what) },
};
const BOOL = 7;
const TEXT = 8;
const ARRAY = 9;

function readBool(cursor: HeaderCursor, what: string): number {
  const value = cursor.u8(what);
  if (value > 1) throw new Error(`${what} is ${value}; a boolean is 0 or 1`);
  return value;
}

/**
 * Parses a header.
 * @param bytes the beginning of the file
 * @param fileBytes size of the whole file
 * @throws NeedMoreBytes when `bytes` end too early; Error that says what is wrong
 */
export function parseGgufHeader(bytes: Buffer, fileBytes: number): GgufHeader {
  const cursor = new HeaderCursor(bytes, fileBytes);
  const start = cursor.take(4, 'the magic number');
  if (bytes.toString('latin1', start, start + 4) !== 'GGUF') throw new Error('not a GGUF file: it does not begin so');
  const version = cursor.u32('the version');
  if (version === 0x02000000 || version === 0x03000000) throw new Error('a big-endian GGUF file; only little-endian');
  if (version !== 2 && version !== 3) throw new Error(`GGUF version ${version}; versions 2 and 3 are read`);
  const tensorCount = cursor.u64('the number of tensors');
  const metadataCount = cursor.u64('the number of metadata entries');
  limit('tensors', tensorCount, MAX_TENSORS);
  limit('metadata entries', metadataCount, MAX_METADATA);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < metadataCount; i += 1) {
    const key = cursor.text('a metadata key', MAX_KEY_BYTES);
    const what = `metadata ${JSON.stringify(key)}`;
    if (metadata.has(key)) throw new Error(`${what} is there twice`);
    metadata.set(key, readValue(cursor, cursor.u32(`the type of ${what}`), what));
  }
  const table: Omit<GgufTensor, 'bytes'>[] = [];
  for (let i = 0; i < tensorCount; i += 1) table.push(readTensor(cursor));
  const headerBytes = cursor.position;
  return {
    version,
    metadata,
    headerBytes,
    tensors: placeTensors(table, headerBytes, alignmentOf(metadata), fileBytes),
  };
}

function limit(what: string, count: number, most: number): void {
  if (count > most) throw new Error(`the header announces ${count} ${what}; at most ${most} are read`);
}

function readValue(cursor: HeaderCursor, type: number, what: string): GgufValue {
  if (type === TEXT) return cursor.text(what, cursor.fileBytes);
  if (type === ARRAY) return readArray(cursor, what);
  const scalar = SCALARS[type];
  if (scalar === undefined) throw new Error(`${what} has the unknown type ${type}`);
  const value = scalar.read(cursor, what);
  return type === BOOL ? value === 1 : value;
}

function readArray(cursor: HeaderCursor, what: string): GgufValue {
  const type = cursor.u32(`the element type of ${what}`);
  const length = cursor.u64(`the length of ${what}`);
  const scalar = SCALARS[type];
  if (scalar === undefined && type !== TEXT) {
    throw new Error(`${what} is an array of type ${type}; arrays of numbers, booleans and texts are read`);
  }
  // Every element takes bytes of the file: an array that cannot fit is refused before room is made for it.
  const least = length * (scalar?.bytes ?? 8);
  const at = cursor.take(least, what);
  cursor.position = at;
  if (scalar === undefined) {
    const texts: string[] = [];
    for (let i = 0; i < length; i += 1) texts.push(cursor.text(`${what}[${i}]`, MAX_KEY_BYTES));
    return texts;
  }
  const values = new scalar.list(length);
  for (let i = 0; i < length; i += 1) values[i] = scalar.read(cursor, what);
  return values;
}

function readTensor(cursor: HeaderCursor): Omit<GgufTensor, 'bytes'> {
  const name = cursor.text('a tensor name', MAX_NAME_BYTES);
  const what = `tensor ${JSON.stringify(name)}`;
  const dimensions = cursor.u32(`the number of dimensions of ${what}`);
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) throw new Error(`${what} has ${dimensions} dimensions`);
  const shape: number[] = [];
  for (let i = 0; i < dimensions; i += 1) {
    const size = cursor.u64(`dimension ${i} of ${what}`);
    if (size === 0) throw new Error(`${what}: dimension ${i} is 0`);
    shape.unshift(size);
  }
  const id = cursor.u32(`the type of ${what}`);
  const type = GGML_TYPES.get(id);
  if (type === undefined) throw new Error(`${what} has the unknown element type ${id}`);
  return { name, type, shape, offset: cursor.u64(`the offset of ${what}`) };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const value = metadata.get('general.alignment') ?? 32;
  if (typeof value !== 'number' || value < 1 || value > MAX_ALIGNMENT || !Number.isInteger(Math.log2(value))) {
    throw new Error(
      `general.alignment is ${JSON.stringify(value)}; a power of two up to ${MAX_ALIGNMENT} would be right`,
    );
  }
  return value;
}

/** Turns relative offsets into places of the file; each must be aligned, inside the file and nobody else's. */
function placeTensors(
  table: readonly Omit<GgufTensor, 'bytes'>[],
  headerBytes: number,
  alignment: number,
  fileBytes: number,
): ReadonlyMap<string, GgufTensor> {
  const dataStart = Math.ceil(headerBytes / alignment) * alignment;
  const tensors = new Map<string, GgufTensor>();
  for (const { name, type, shape, offset: relative } of table) {
    const what = `tensor ${JSON.stringify(name)}`;
    if (tensors.has(name)) throw new Error(`${what} is there twice`);
    const width = shape.at(-1)!;
    if (width % type.blockElements !== 0) {
      throw new Error(`${what}: rows of ${width} elements are no whole blocks of ${type.blockElements} (${type.name})`);
    }
    const bytes = shape.reduce((product, size) => product * size, type.blockBytes / type.blockElements);
    const offset = dataStart + relative;
    if (relative % alignment !== 0) throw new Error(`${what}: offset ${relative} is no multiple of ${alignment}`);
    if (offset + bytes > fileBytes) {
      throw new Error(`${what} lies at ${offset} and takes ${bytes} bytes; the file has ${fileBytes}`);
    }
    tensors.set(name, { name, type, shape, offset, bytes });
  }
  const ordered = [...tensors.values()].sort((x, y) => x.offset - y.offset);
  for (const [i, { name, offset }] of ordered.entries()) {
    const before = ordered[i - 1];
    if (before !== undefined && before.offset + before.bytes > offset) {
      throw new Error(`tensors ${JSON.stringify(before.name)} and ${JSON.stringify(name)} share bytes`);
    }
  }
  return tensors;
}
