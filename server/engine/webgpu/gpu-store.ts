/**
 * Rows' keys and values on the device, whole rows side by side. What the engine asks of a store is carried out in order by
 * a queue that starts at once; steps wait for it. A store whose memory could not be had fails at the step that needs it.
 */
import { cacheNames } from '../../model/webgpu/gpu-attention.js';
import type { GpuGraph } from '../../model/webgpu/gpu-graph.js';
import type { Stretch } from '../backend.js';
import { type DeviceStore, StepLogits, type StoreBindings } from './device-store.js';
import type { GpuCaches } from './gpu-caches.js';
import type { GpuDevice, GpuTensor } from './gpu-device.js';
import { type GpuQueue, GpuWork } from './gpu-queue.js';
import type { Step } from './gpu-step.js';
import { placeFeeds } from './place-feeds.js';

/** Keys and values of rows, side by side in caches of their own. */
export class GpuStore implements DeviceStore {
  readonly device: GpuDevice;
  readonly #caches: GpuCaches;
  readonly #work: GpuWork;
  #slots: number;
  #capacity: number;
  #tensors: GpuTensor[] = [];
  readonly #logits: StepLogits;

  constructor(device: GpuDevice, caches: GpuCaches, queue: GpuQueue, slots: number, capacity: number) {
    this.#slots = slots;
    this.device = device;
    this.#caches = caches;
    this.#work = new GpuWork(queue);
    this.#capacity = capacity;
    this.#logits = new StepLogits(device);
    this.#work.add(async () => {
      this.#tensors = await caches.allocate(slots, capacity);
    });
  }

  get broken(): 'lost' | 'failed' | undefined {
    if (this.device.closed) return 'lost';
    return this.#work.failure === undefined ? undefined : 'failed';
  }

  get slots(): number {
    return this.#slots;
  }

  get capacity(): number {
    return this.#capacity;
  }

  get bytes(): number {
    return this.#caches.bytes(this.#slots, this.#capacity);
  }

  /** Keys of layer 0, values of layer 0, keys of layer 1, ...: to be called when the queue is drained. Throws what failed. */
  get tensors(): readonly GpuTensor[] {
    this.#work.check();
    return this.#tensors;
  }

  prepare({ batch, ids, lengths }: Step): void {
    this.reserve(lengths.reduce((most, length) => Math.max(most, length), 0) + ids.length / batch);
  }

  bindings({ batch, ids, lengths }: Step, graph: Pick<GpuGraph, 'inputs' | 'windows'>): StoreBindings {
    const { tensors } = this;
    const feeds = placeFeeds(this.#caches, graph, lengths, ids.length / batch, tensors[0]!.dims[2]!);
    const fetches: StoreBindings['fetches'] = {};
    for (let layer = 0; layer * 2 < tensors.length; layer += 1) {
      const [keys, values] = [tensors[layer * 2]!, tensors[layer * 2 + 1]!];
      feeds[cacheNames.pastKeys(layer)] = keys;
      feeds[cacheNames.pastValues(layer)] = values;
      fetches[cacheNames.keys(layer)] = keys;
      fetches[cacheNames.values(layer)] = values;
    }
    return { feeds, fetches };
  }

  async logits(width: number): Promise<GpuTensor> {
    this.#work.check();
    return this.#logits.of(this.#slots, width);
  }

  reserve(time: number): void {
    if (time <= this.#capacity) return;
    const all = Array.from({ length: this.#slots }, (_, slot) => slot);
    this.reshape(this.#slots, time, all, this.#capacity);
  }

  reshape(slots: number, capacity: number, sources: readonly (number | undefined)[], length: number): void {
    this.#slots = slots;
    this.#capacity = capacity;
    this.#work.add(() => this.#caches.reshape(this.#tensors, capacity, sources, length));
  }

  copyStretch(stretch: Stretch, target: GpuStore, targetSlot: number, targetFrom: number): void {
    target.#work.add(() => this.#caches.copyStretch(this.tensors, stretch, target.#tensors, targetSlot, targetFrom));
  }

  release(): void {
    this.#work.end('the store was released', () => {
      for (const tensor of this.#tensors) this.device.free(tensor);
      this.#logits.free();
      this.#tensors = [];
    });
  }
}
