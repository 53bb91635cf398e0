/** Writes GGUF files byte by byte, well-formed or not. */

/** A metadata value with its type id: 4 = uint32, 5 = int32, 6 = float32, 7 = bool, 8 = text, 9 = array. */
export type RawValue =
  | { readonly type: 4 | 5 | 6; readonly value: number }
  | { readonly type: 7; readonly value: boolean }
  | { readonly type: 8; readonly value: string }
  | { readonly type: 9; readonly of: 4 | 5 | 6 | 8; readonly value: readonly (number | string)[] };

/** A tensor; `dims` innermost first, as the file has them. */
export interface RawTensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type: number;
  readonly data: Uint8Array;
  /** Instead of the place where the data lie. */
  readonly offset?: number;
}

export interface RawGguf {
  readonly version?: number;
  readonly metadata?: Readonly<Record<string, RawValue>>;
  readonly tensors?: readonly RawTensor[];
  readonly tensorCount?: number | bigint;
  readonly metadataCount?: number | bigint;
}

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};
export const u64 = (value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
export const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);

export const str = (value: string): RawValue => ({ type: 8, value });
export const int = (value: number): RawValue => ({ type: 4, value });
export const float = (value: number): RawValue => ({ type: 6, value });

function scalar(type: number, value: number | string | boolean): Buffer {
  const bytes = Buffer.alloc(4);
  if (type === 8) return text(value as string);
  if (type === 7) return Buffer.from([value ? 1 : 0]);
  if (type === 6) bytes.writeFloatLE(value as number);
  else if (type === 5) bytes.writeInt32LE(value as number);
  else bytes.writeUInt32LE(value as number);
  return bytes;
}

function encode(raw: RawValue): Buffer {
  if (raw.type !== 9) return Buffer.concat([u32(raw.type), scalar(raw.type, raw.value)]);
  const items = raw.value.map((item) => scalar(raw.of, item));
  return Buffer.concat([u32(9), u32(raw.of), u64(items.length), ...items]);
}

/** The whole file. */
export function rawGguf({ version = 3, metadata = {}, tensors = [], ...counts }: RawGguf): Buffer {
  const entries = Object.entries(metadata);
  const table: Buffer[] = [];
  const data: Buffer[] = [];
  let at = 0;
  for (const { name, dims, type, data: bytes, offset } of tensors) {
    table.push(text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset ?? at));
    const padded = Buffer.alloc(Math.ceil(bytes.length / 32) * 32);
    padded.set(bytes);
    data.push(padded);
    at += padded.length;
  }
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    u32(version),
    u64(counts.tensorCount ?? tensors.length),
    u64(counts.metadataCount ?? entries.length),
    ...entries.flatMap(([key, value]) => [text(key), encode(value)]),
    ...table,
  ]);
  return Buffer.concat([header, Buffer.alloc((32 - (header.length % 32)) % 32), ...data]);
}

/** A float32 tensor of [rows, columns] (or [columns]). */
export function f32Tensor(name: string, shape: readonly number[], value: (i: number) => number = () => 0): RawTensor {
  const values = Float32Array.from({ length: shape.reduce((n, size) => n * size, 1) }, (_, i) => value(i));
  return { name, dims: [...shape].reverse(), type: 0, data: new Uint8Array(values.buffer) };
}
