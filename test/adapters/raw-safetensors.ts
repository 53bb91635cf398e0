/** A second, naive reader and writer of safetensors for tests; float64 numbers, no checks. */
import { readFileSync } from 'node:fs';

export interface RawTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly values: readonly number[];
}

function decode(dtype: string, bytes: Buffer): number[] {
  const result: number[] = [];
  const half = (bits: number) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  };
  const size = dtype === 'F32' ? 4 : dtype === 'F64' ? 8 : 2;
  for (let at = 0; at < bytes.length; at += size) {
    if (dtype === 'F32') result.push(bytes.readFloatLE(at));
    else if (dtype === 'F64') result.push(bytes.readDoubleLE(at));
    else if (dtype === 'F16') result.push(half(bytes.readUInt16LE(at)));
    else if (dtype === 'BF16') {
      const wide = Buffer.alloc(4);
      wide.writeUInt16LE(bytes.readUInt16LE(at), 2);
      result.push(wide.readFloatLE(0));
    } else throw new Error(`no reader for ${dtype}`);
  }
  return result;
}

/** All tensors of a file. */
export function readRawFile(path: string): Map<string, RawTensor> {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + length).toString('utf8')) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const data = file.subarray(8 + length);
  const tensors = new Map<string, RawTensor>();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name !== '__metadata__') tensors.set(name, { dtype, shape, values: decode(dtype, data.subarray(...offsets)) });
  }
  return tensors;
}

/** The bytes of a file with these float32 tensors. */
export function encodeFile(
  tensors: Iterable<readonly [string, { shape: readonly number[]; values: readonly number[] }]>,
): Buffer {
  const header: Record<string, unknown> = {};
  const parts: Buffer[] = [];
  let at = 0;
  for (const [name, { shape, values }] of tensors) {
    const bytes = Buffer.from(Float32Array.from(values).buffer);
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + bytes.length] };
    parts.push(bytes);
    at += bytes.length;
  }
  return withHeader(JSON.stringify(header), Buffer.concat(parts));
}

/** The bytes of a file with any header text. */
export function withHeader(json: string | Buffer, data: Uint8Array): Buffer {
  const text = Buffer.from(json as string);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, data]);
}
