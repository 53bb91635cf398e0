/**
 * Packed matrices in a model that onnxruntime saved (`session.save_external_prepacked_constant_initializers`). Such an
 * initialiser has an entry `prepacked_0` beside location, offset and length: `KEY|OFFSET;LENGTH;ALIGNMENT`, where the
 * key holds the operator's name and a hash of the packed bytes. Field numbers follow onnx.proto.
 */
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';

/** Where the packed form of one initialiser lies. */
export interface PackedEntry {
  /** Name of the initialiser. */
  readonly name: string;
  /** What onnxruntime finds the packed form by: it packs anew and takes these bytes only if they hash to the same. */
  readonly key: string;
  /** In the file that the initialiser itself lies in. */
  readonly offset: number;
  readonly length: number;
}

/** The entry as an initialiser of another file states it. */
export function packedEntry({ key, length }: PackedEntry, offset: number): string {
  return `${key}|${offset};${length};0`;
}

/** Reads the initialisers of a serialised ModelProto that have one packed form each. Throws where an entry is not understood. */
export function readPackedEntries(model: Uint8Array): PackedEntry[] {
  const entries: PackedEntry[] = [];
  for (const tensor of lengthDelimited(lengthDelimited(model, 7)[0] ?? new Uint8Array(), 5)) {
    const [name] = lengthDelimited(tensor, 8).map(text);
    for (const pair of lengthDelimited(tensor, 13)) {
      const [key, value] = [lengthDelimited(pair, 1), lengthDelimited(pair, 2)].map(([bytes]) =>
        text(bytes ?? new Uint8Array()),
      );
      if (key?.startsWith('prepacked_') !== true) continue;
      const parts = /^([^|;]+)\|(\d+);(\d+);\d+$/.exec(value!);
      if (key !== 'prepacked_0' || name === undefined || parts === null) {
        throw new Error(`initialiser ${name}: ${key} = ${value} is not one packed form`);
      }
      entries.push({ name, key: parts[1]!, offset: Number(parts[2]), length: Number(parts[3]) });
    }
  }
  return entries;
}

/** The length-delimited fields of that number in a protobuf message, in order. */
export function lengthDelimited(bytes: Uint8Array, field: number): Uint8Array[] {
  const reader = new BinaryReader(bytes);
  const found: Uint8Array[] = [];
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (number === field && type === WireType.LengthDelimited) found.push(reader.bytes());
    else reader.skip(type, number);
  }
  return found;
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
