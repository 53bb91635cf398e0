/** Moves keys and values between caches on the device: rows from store to store, and stores into larger ones. */

import { GraphBuilder } from '../../model/onnx-graph.js';
import type { DecoderSpec } from '../../model/spec.js';
import { elementBytes, elementType, type GpuPrecision } from '../../model/webgpu/gpu-precision.js';
import type { Stretch } from '../backend.js';
import * as ort from '../ort.js';
import { int64 } from '../step-inputs.js';
import { emitZeros, type GpuDevice, type GpuSession, type GpuTensor } from './gpu-device.js';

/** The sessions that do it, for one model. Tensors are [slots, kvHeads, capacity, headDim], two a layer. */
export class GpuCaches {
  readonly #device: GpuDevice;
  readonly #precision: GpuPrecision;
  readonly kvHeads: number;
  readonly #headDim: number;
  /** Keys and values of all layers. */
  readonly count: number;
  readonly type: 'float32' | 'float16';
  readonly #copy: GpuSession;
  readonly #reshape: GpuSession;

  private constructor(
    device: GpuDevice,
    spec: DecoderSpec,
    precision: GpuPrecision,
    copy: GpuSession,
    reshape: GpuSession,
  ) {
    this.#device = device;
    this.#precision = precision;
    this.type = elementType(precision);
    this.kvHeads = spec.kvHeads;
    this.#headDim = spec.headDim;
    this.count = spec.layers.length * 2;
    this.#copy = copy;
    this.#reshape = reshape;
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
    const reshape = new GraphBuilder();
    const old = reshape.input('old', type, ['slots', kvHeads, 'capacity', headDim]);
    const rows = reshape.op('Gather', [old, reshape.input('sources', 'int32', ['to.slots'])], { axis: 0 });
    const kept = reshape.op('Slice', [
      rows,
      reshape.ints([0]),
      reshape.input('length', 'int64', [1]),
      reshape.ints([2]),
    ]);
    const rest = emitZeros(reshape, type, reshape.input('rest', 'int64', [4]));
    const grown = reshape.op('Concat', [kept, rest], { axis: 2 });
    reshape.output(grown, type, ['to.slots', kvHeads, 'to.capacity', headDim]);
    return new GpuCaches(
      device,
      spec,
      precision,
      await device.session(copy.finish('copy-rows'), false),
      await device.session(reshape.finish('reshape'), true),
    );
  }

  /** Bytes of a store. */
  bytes(slots: number, capacity: number): number {
    return this.count * slots * this.kvHeads * capacity * this.#headDim * elementBytes(this.#precision);
  }

  /** New caches of zeros. What was made is freed again if the device has no memory for all. */
  async allocate(slots: number, capacity: number): Promise<GpuTensor[]> {
    const made: GpuTensor[] = [];
    try {
      for (let i = 0; i < this.count; i += 1) {
        const dims = [slots, this.kvHeads, capacity, this.#headDim];
        made.push(await this.#device.zeros(this.type, dims));
      }
      return made;
    } catch (error) {
      for (const tensor of made) this.#device.free(tensor);
      throw error;
    }
  }

  /**
   * Replaces each cache by one of another shape, one after the other, so that little is held twice.
   * @param sources by new slot: the old slot whose positions 0..length-1 it holds afterwards; undefined = free
   */
  async reshape(
    tensors: GpuTensor[],
    capacity: number,
    sources: readonly (number | undefined)[],
    length: number,
  ): Promise<void> {
    const feeds = {
      // A free slot gets a copy of some other: finite numbers that nobody looks at.
      sources: new ort.Tensor(
        'int32',
        Int32Array.from(sources, (slot) => slot ?? 0),
        [sources.length],
      ),
      length: int64([length]),
      rest: int64([sources.length, this.kvHeads, capacity - length, this.#headDim]),
    };
    for (const [i, old] of tensors.entries()) {
      const [fresh] = Object.values(await this.#reshape.run({ old, ...feeds }));
      tensors[i] = this.#device.adopt(fresh!);
      this.#device.free(old);
    }
  }

  /** Copies a stretch of positions of a slot to a slot of other caches, in place. */
  async copyStretch(
    source: readonly GpuTensor[],
    { slot, from, count }: Stretch,
    target: readonly GpuTensor[],
    targetSlot: number,
    targetFrom: number,
  ): Promise<void> {
    if (count === 0) return;
    const feeds: Record<string, ort.Tensor> = {
      from: this.#places(slot, from, count),
      to: this.#places(targetSlot, targetFrom, count),
    };
    const fetches: Record<string, ort.Tensor> = {};
    for (let i = 0; i < this.count; i += 1) {
      feeds[`source.${i}`] = source[i]!;
      feeds[`target.${i}`] = target[i]!;
      fetches[`out.${i}`] = target[i]!;
    }
    for (const wrapper of Object.values(await this.#copy.run(feeds, fetches))) wrapper.dispose();
  }

  /** [kvHeads * count, 3]: places of a stretch, head by head. */
  #places(slot: number, from: number, count: number): ort.Tensor {
    return placesTensor(this.kvHeads * count, 3, (i) => [slot, Math.floor(i / count), from + (i % count)]);
  }
}

/** int64 [count, width] of places; written as 32-bit words, since a BigInt each would be slow. */
export function placesTensor(count: number, width: number, at: (i: number) => readonly number[]): ort.Tensor {
  const words = new Int32Array(count * width * 2); // little-endian; all values are small and not negative
  for (let i = 0; i < count; i += 1) {
    for (const [axis, value] of at(i).entries()) words[(i * width + axis) * 2] = value;
  }
  return new ort.Tensor('int64', new BigInt64Array(words.buffer), [count, width]);
}
