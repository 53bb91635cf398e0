/** Moves keys and values between caches on the device: rows from store to store, and stores into larger ones. */
import * as ort from 'onnxruntime-node';
import { GraphBuilder } from '../../model/onnx-graph.js';
import type { DecoderSpec } from '../../model/spec.js';
import { elementBytes, elementType, type GpuPrecision } from '../../model/webgpu/gpu-precision.js';
import { int64 } from '../step-inputs.js';
import type { GpuDevice, GpuSession, GpuTensor } from './gpu-device.js';

/** The sessions that do it, for one model. Tensors are [slots, kvHeads, capacity, headDim], two a layer. */
export class GpuCaches {
  readonly #device: GpuDevice;
  readonly #precision: GpuPrecision;
  readonly #kvHeads: number;
  readonly #headDim: number;
  /** Keys and values of all layers. */
  readonly count: number;
  readonly #copy: GpuSession;
  readonly #grow: GpuSession;

  private constructor(
    device: GpuDevice,
    spec: DecoderSpec,
    precision: GpuPrecision,
    copy: GpuSession,
    grow: GpuSession,
  ) {
    this.#device = device;
    this.#precision = precision;
    this.#kvHeads = spec.kvHeads;
    this.#headDim = spec.headDim;
    this.count = spec.layers.length * 2;
    this.#copy = copy;
    this.#grow = grow;
  }

  static async open(device: GpuDevice, spec: DecoderSpec, precision: GpuPrecision): Promise<GpuCaches> {
    const type = elementType(precision);
    const { kvHeads, headDim } = spec;
    const copy = new GraphBuilder();
    const from = copy.input('from', 'int64', ['n', 3]);
    const to = copy.input('to', 'int64', ['n', 3]);
    for (let i = 0; i < spec.layers.length * 2; i += 1) {
      const source = copy.input(`source.${i}`, type, ['slots', kvHeads, 'capacity', headDim]);
      const target = copy.input(`target.${i}`, type, ['to.slots', kvHeads, 'to.capacity', headDim]);
      copy.into('ScatterND', [target, to, copy.op('GatherND', [source, from])], [`out.${i}`]);
      copy.output(`out.${i}`, type, ['to.slots', kvHeads, 'to.capacity', headDim]);
    }
    const grow = new GraphBuilder();
    const old = grow.input('old', type, ['slots', kvHeads, 'capacity', headDim]);
    const zero = grow.scalar(0);
    const value = precision.half ? grow.op('Cast', [zero], { to: 10 }) : zero;
    const more = grow.op('Expand', [value, grow.input('more', 'int64', [4])]);
    grow.output(grow.op('Concat', [old, more], { axis: 2 }), type, ['slots', kvHeads, 'grown', headDim]);
    return new GpuCaches(
      device,
      spec,
      precision,
      await device.session(copy.finish('copy-rows'), false),
      await device.session(grow.finish('grow'), true),
    );
  }

  /** Bytes of a store. */
  bytes(slots: number, capacity: number): number {
    return this.count * slots * this.#kvHeads * capacity * this.#headDim * elementBytes(this.#precision);
  }

  /** New caches of zeros. What was made is freed again if the device has no memory for all. */
  async allocate(slots: number, capacity: number): Promise<GpuTensor[]> {
    const made: GpuTensor[] = [];
    try {
      for (let i = 0; i < this.count; i += 1) {
        const dims = [slots, this.#kvHeads, capacity, this.#headDim];
        made.push(await this.#device.zeros(elementType(this.#precision), dims));
      }
      return made;
    } catch (error) {
      for (const tensor of made) this.#device.free(tensor);
      throw error;
    }
  }

  /** Replaces each cache by one with room for `capacity` positions, one after the other, so that little is held twice. */
  async grow(tensors: GpuTensor[], slots: number, capacity: number): Promise<void> {
    for (const [i, old] of tensors.entries()) {
      const more = int64([slots, this.#kvHeads, capacity - old.dims[2]!, this.#headDim]);
      const [grown] = Object.values(await this.#grow.run({ old, more }));
      tensors[i] = this.#device.adopt(grown!);
      this.#device.free(old);
    }
  }

  /** Copies positions 0..length-1 of a slot to a slot of other caches, in place. */
  async copyRow(
    source: readonly GpuTensor[],
    slot: number,
    length: number,
    target: readonly GpuTensor[],
    targetSlot: number,
  ): Promise<void> {
    if (length === 0) return;
    const feeds: Record<string, ort.Tensor> = {
      from: this.#places(slot, length),
      to: this.#places(targetSlot, length),
    };
    const fetches: Record<string, ort.Tensor> = {};
    for (let i = 0; i < this.count; i += 1) {
      feeds[`source.${i}`] = source[i]!;
      feeds[`target.${i}`] = target[i]!;
      fetches[`out.${i}`] = target[i]!;
    }
    for (const wrapper of Object.values(await this.#copy.run(feeds, fetches))) wrapper.dispose();
  }

  /** [kvHeads * length, 3]: a slot's places, head by head. */
  #places(slot: number, length: number): ort.Tensor {
    return placesTensor(this.#kvHeads * length, (i) => [slot, Math.floor(i / length), i % length]);
  }
}

/** int64 [count, 3] of (slot, kv head, position); written as 32-bit words, since a BigInt each would be slow. */
export function placesTensor(count: number, at: (i: number) => readonly [number, number, number]): ort.Tensor {
  const words = new Int32Array(count * 6); // little-endian; all values are small and not negative
  for (let i = 0; i < count; i += 1) {
    const [slot, head, position] = at(i);
    words[i * 6] = slot;
    words[i * 6 + 2] = head;
    words[i * 6 + 4] = position;
  }
  return new ort.Tensor('int64', new BigInt64Array(words.buffer), [count, 3]);
}
