/**
 * Parts of ONNX models in protobuf's wire format. Field numbers follow onnx.proto; only the messages that a decoder graph
 * needs exist here.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

/** Element types by their number in `onnx.TensorProto.DataType`. */
const DataType = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const;
/** Name of an element type. */
export type DataTypeName = keyof typeof DataType;

/** Attribute of a node; numbers are written as INT when `Number.isInteger` and not wrapped in {@link float}. */
export type Attribute = number | string | readonly number[] | { readonly float: number };

/** Marks a number as a FLOAT attribute even when it is whole. */
export const float = (value: number): Attribute => ({ float: value });

/** Dimension: a number, or the name of a symbolic one. */
export type Dim = number | string;

/** Begins a `TensorProto`: all but its bytes. */
export function tensorHead(name: string, type: DataTypeName, dims: readonly number[]): BinaryWriter {
  const writer = new BinaryWriter();
  for (const dim of dims) writer.tag(1, WireType.Varint).int64(dim);
  writer.tag(2, WireType.Varint).int32(DataType[type]);
  writer.tag(8, WireType.LengthDelimited).string(name);
  return writer;
}

/** A `ValueInfoProto`: a value's name, type and shape. */
export function valueInfo(name: string, type: DataTypeName, dims: readonly Dim[]): Uint8Array {
  const writer = new BinaryWriter();
  writer.tag(1, WireType.LengthDelimited).string(name);
  writer.tag(2, WireType.LengthDelimited).fork(); // TypeProto
  writer.tag(1, WireType.LengthDelimited).fork(); // TypeProto.Tensor
  writer.tag(1, WireType.Varint).int32(DataType[type]);
  writer.tag(2, WireType.LengthDelimited).fork(); // TensorShapeProto
  for (const dim of dims) {
    writer.tag(1, WireType.LengthDelimited).fork();
    if (typeof dim === 'number') writer.tag(1, WireType.Varint).int64(dim);
    else writer.tag(2, WireType.LengthDelimited).string(dim);
    writer.join();
  }
  writer.join().join().join();
  return writer.finish();
}

/** Writes the fields of an `AttributeProto`. */
export function writeAttribute(writer: BinaryWriter, name: string, value: Attribute): void {
  writer.tag(1, WireType.LengthDelimited).string(name);
  if (typeof value === 'string') {
    writer.tag(4, WireType.LengthDelimited).string(value).tag(20, WireType.Varint).int32(3);
  } else if (typeof value === 'number') {
    if (Number.isInteger(value)) writer.tag(3, WireType.Varint).int64(value).tag(20, WireType.Varint).int32(2);
    else writer.tag(2, WireType.Bit32).float(value).tag(20, WireType.Varint).int32(1);
  } else if ('float' in value) {
    writer.tag(2, WireType.Bit32).float(value.float).tag(20, WireType.Varint).int32(1);
  } else {
    for (const item of value) writer.tag(8, WireType.Varint).int64(item);
    writer.tag(20, WireType.Varint).int32(7);
  }
}
