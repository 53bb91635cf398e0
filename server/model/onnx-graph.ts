/** Writes ONNX models: a builder collects nodes, inputs, outputs and initialisers, and serialises them (IR version 10). */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { type Attribute, type DataTypeName, type Dim, tensorHead, valueInfo, writeAttribute } from './onnx-messages.js';

/** A value in the graph: the name under which a node reads or writes it. */
export type Value = string;

/** Where an initialiser's bytes lie: a file (relative to the session's external folder or in its `externalData` list). */
export interface ExternalBytes {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
  /** The same bytes as a kernel packs them, in the same file: onnxruntime's own entry `prepacked_0`. */
  readonly packed?: string | undefined;
}

/** Collects one graph. Every method that adds a node returns the name of its (first) output. */
export class GraphBuilder {
  readonly #nodes: Uint8Array[] = [];
  readonly #inputs: Uint8Array[] = [];
  readonly #outputs: Uint8Array[] = [];
  readonly #shapes: Uint8Array[] = [];
  readonly #initialisers: Uint8Array[] = [];
  readonly #constants = new Map<string, Value>();
  readonly #declared = new Set<string>();
  #counter = 0;

  /** Names of graph inputs and outputs in the order they were declared. */
  readonly inputNames: string[] = [];
  readonly outputNames: string[] = [];

  /** Declares a graph input. */
  input(name: string, type: DataTypeName, dims: readonly Dim[]): Value {
    this.#inputs.push(valueInfo(name, type, dims));
    this.inputNames.push(name);
    return name;
  }

  /** Declares a value as graph output. It keeps its name: renaming would cost a copy at every run. */
  output(value: Value, type: DataTypeName, dims: readonly Dim[]): Value {
    this.#outputs.push(valueInfo(value, type, dims));
    this.outputNames.push(value);
    return value;
  }

  /**
   * Tells the shape of a float32 value that onnxruntime cannot find out itself; dimensions of one name must be equal in a
   * run. Only what has the shape of something before it may take its memory, and what has no known shape is compared with
   * everything before it, and never reused, when a session is made.
   */
  known(value: Value, dims: readonly Dim[]): Value {
    this.#shapes.push(valueInfo(value, 'float32', dims));
    return value;
  }

  /** Adds a node of the default domain with one output. */
  op(type: string, inputs: readonly Value[], attributes: Record<string, Attribute> = {}): Value {
    return this.#addNode(type, inputs, [this.fresh(type)], attributes, '')[0]!;
  }

  /** Adds a node of onnxruntime's `com.microsoft` domain with one output. */
  contrib(type: string, inputs: readonly Value[], attributes: Record<string, Attribute> = {}): Value {
    return this.#addNode(type, inputs, [this.fresh(type)], attributes, 'com.microsoft')[0]!;
  }

  /** Adds a node of the default domain whose output has a name that the caller chose (and may look up with `declared`). */
  named(name: string, type: string, inputs: readonly Value[], attributes: Record<string, Attribute> = {}): Value {
    this.#declared.add(name);
    return this.#addNode(type, inputs, [name], attributes, '')[0]!;
  }

  /** True once an external initialiser or a named node of that name exists. */
  declared(name: string): boolean {
    return this.#declared.has(name);
  }

  /** Adds a node whose output names the caller gives; '' skips an optional output. */
  into(
    type: string,
    inputs: readonly Value[],
    outputs: readonly Value[],
    attributes: Record<string, Attribute> = {},
    domain = '',
  ): void {
    this.#addNode(type, inputs, [...outputs], attributes, domain);
  }

  /** Adds a node with `count` outputs. */
  multi(
    type: string,
    inputs: readonly Value[],
    count: number,
    attributes: Record<string, Attribute> = {},
    domain = '',
  ): Value[] {
    const outputs = Array.from({ length: count }, () => this.fresh(type));
    return this.#addNode(type, inputs, outputs, attributes, domain);
  }

  /** An initialiser whose bytes stay where they are. */
  external(name: string, type: DataTypeName, dims: readonly number[], bytes: ExternalBytes): Value {
    const writer = tensorHead(name, type, dims);
    for (const [key, value] of [
      ['location', bytes.location],
      ['offset', String(bytes.offset)],
      ['length', String(bytes.length)],
      ...(bytes.packed === undefined ? [] : [['prepacked_0', bytes.packed] as const]),
    ] as const) {
      writer.tag(13, WireType.LengthDelimited).fork();
      writer.tag(1, WireType.LengthDelimited).string(key).tag(2, WireType.LengthDelimited).string(value).join();
    }
    writer.tag(14, WireType.Varint).int32(1);
    this.#initialisers.push(writer.finish());
    this.#declared.add(name);
    return name;
  }

  /** A small float32 initialiser held in the model itself. */
  floats(name: string, values: Float32Array | readonly number[], dims: readonly number[]): Value {
    const data = Float32Array.from(values);
    const writer = tensorHead(name, 'float32', dims);
    writer.tag(9, WireType.LengthDelimited).bytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    this.#initialisers.push(writer.finish());
    return name;
  }

  /** A float32 initialiser under a name that `declared` then knows. */
  constant(name: string, values: Float32Array, dims: readonly number[]): Value {
    this.#declared.add(name);
    return this.floats(name, values, dims);
  }

  /** A shared int64 constant, for shapes, axes and split sizes. */
  ints(values: readonly number[], scalar = false): Value {
    const key = `ints:${scalar}:${values.join(',')}`;
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const name = this.fresh('ints');
    const writer = tensorHead(name, 'int64', scalar ? [] : [values.length]);
    const data = BigInt64Array.from(values, BigInt);
    writer.tag(9, WireType.LengthDelimited).bytes(new Uint8Array(data.buffer));
    this.#initialisers.push(writer.finish());
    this.#constants.set(key, name);
    return name;
  }

  /** A shared float32 scalar constant. */
  scalar(value: number): Value {
    const key = `float:${value}`;
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const name = this.floats(this.fresh('scalar'), [value], []);
    this.#constants.set(key, name);
    return name;
  }

  /** A shared uint8 scalar constant, for zero points. */
  byte(value: number): Value {
    const key = `byte:${value}`;
    const known = this.#constants.get(key);
    if (known !== undefined) return known;
    const name = this.fresh('byte');
    const writer = tensorHead(name, 'uint8', []);
    writer.tag(9, WireType.LengthDelimited).bytes(Uint8Array.of(value));
    this.#initialisers.push(writer.finish());
    this.#constants.set(key, name);
    return name;
  }

  /** A name that no other value of this graph has. */
  fresh(hint: string): Value {
    this.#counter += 1;
    return `${hint}_${this.#counter}`;
  }

  /** The serialised `ModelProto`. */
  finish(graphName: string): Uint8Array {
    const model = new BinaryWriter();
    model.tag(1, WireType.Varint).int64(10);
    model.tag(2, WireType.LengthDelimited).string('loramux');
    model.tag(7, WireType.LengthDelimited).fork();
    for (const node of this.#nodes) model.tag(1, WireType.LengthDelimited).bytes(node);
    model.tag(2, WireType.LengthDelimited).string(graphName);
    for (const tensor of this.#initialisers) model.tag(5, WireType.LengthDelimited).bytes(tensor);
    for (const info of this.#inputs) model.tag(11, WireType.LengthDelimited).bytes(info);
    for (const info of this.#outputs) model.tag(12, WireType.LengthDelimited).bytes(info);
    for (const info of this.#shapes) model.tag(13, WireType.LengthDelimited).bytes(info);
    model.join();
    for (const [domain, version] of [
      ['', 21],
      ['com.microsoft', 1],
    ] as const) {
      model.tag(8, WireType.LengthDelimited).fork();
      model.tag(1, WireType.LengthDelimited).string(domain).tag(2, WireType.Varint).int64(version).join();
    }
    return model.finish();
  }

  #addNode(
    type: string,
    inputs: readonly Value[],
    outputs: Value[],
    attributes: Record<string, Attribute>,
    domain: string,
  ): Value[] {
    const writer = new BinaryWriter();
    for (const input of inputs) writer.tag(1, WireType.LengthDelimited).string(input);
    for (const output of outputs) writer.tag(2, WireType.LengthDelimited).string(output);
    writer.tag(3, WireType.LengthDelimited).string(outputs[0]!);
    writer.tag(4, WireType.LengthDelimited).string(type);
    for (const [name, value] of Object.entries(attributes)) {
      writer.tag(5, WireType.LengthDelimited).fork();
      writeAttribute(writer, name, value);
      writer.join();
    }
    if (domain !== '') writer.tag(7, WireType.LengthDelimited).string(domain);
    this.#nodes.push(writer.finish());
    return outputs;
  }
}
