/**
 * Rows' keys and values on the device. What the engine asks of a store is carried out in order by a queue that starts at
 * once; steps wait for it. A store whose memory could not be had fails at the step that needs it.
 */
import type { RowStore, Stretch } from '../backend.js';
import type { GpuCaches } from './gpu-caches.js';
import type { GpuDevice, GpuTensor } from './gpu-device.js';

/** Carries out what stores were asked for, in order. */
export class GpuQueue {
  #tail: Promise<void> = Promise.resolve();

  /** Adds work. It must not throw. */
  add(work: () => Promise<void>): void {
    this.#tail = this.#tail.then(work);
  }

  /** Resolves when everything that was added has been done. */
  drained(): Promise<void> {
    return this.#tail;
  }
}

export class GpuStore implements RowStore {
  readonly #device: GpuDevice;
  readonly #caches: GpuCaches;
  readonly #queue: GpuQueue;
  #slots: number;
  #capacity: number;
  #tensors: GpuTensor[] = [];
  #logits: GpuTensor | undefined;
  #failure: Error | undefined;

  constructor(device: GpuDevice, caches: GpuCaches, queue: GpuQueue, slots: number, capacity: number) {
    this.#slots = slots;
    this.#device = device;
    this.#caches = caches;
    this.#queue = queue;
    this.#capacity = capacity;
    this.#do(async () => {
      this.#tensors = await caches.allocate(slots, capacity);
    });
  }

  /** The device that holds it: after a restart it is not the model's any more. */
  get device(): GpuDevice {
    return this.#device;
  }

  get broken(): 'lost' | 'failed' | undefined {
    if (this.#device.closed) return 'lost';
    return this.#failure === undefined ? undefined : 'failed';
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
    if (this.#failure !== undefined) throw this.#failure;
    return this.#tensors;
  }

  /**
   * Where a step can leave the logits of all slots for another graph to read, [slots, width]. To be called when the queue
   * is drained, and not again before the step is over. Throws as {@link tensors}.
   */
  async logits(width: number): Promise<GpuTensor> {
    if (this.#logits?.dims[0] !== this.#slots) {
      this.#device.free(this.#logits);
      this.#logits = undefined;
      const made = await this.#device.zeros('float32', [this.#slots, width]);
      // Released meanwhile: nobody would free it any more.
      if (this.#failure !== undefined) this.#device.free(made);
      else this.#logits = made;
    }
    if (this.#failure !== undefined) throw this.#failure;
    return this.#logits!;
  }

  reserve(time: number): void {
    if (time <= this.#capacity) return;
    const all = Array.from({ length: this.#slots }, (_, slot) => slot);
    this.reshape(this.#slots, time, all, this.#capacity);
  }

  reshape(slots: number, capacity: number, sources: readonly (number | undefined)[], length: number): void {
    this.#slots = slots;
    this.#capacity = capacity;
    this.#do(() => this.#caches.reshape(this.#tensors, capacity, sources, length));
  }

  copyStretch(stretch: Stretch, target: GpuStore, targetSlot: number, targetFrom: number): void {
    target.#do(() => this.#caches.copyStretch(this.tensors, stretch, target.#tensors, targetSlot, targetFrom));
  }

  release(): void {
    this.#queue.add(async () => {
      for (const tensor of [...this.#tensors, this.#logits]) this.#device.free(tensor);
      this.#tensors = [];
      this.#logits = undefined;
      this.#failure ??= new Error('the store was released');
    });
  }

  /** Queues work on this store; the first failure is kept, and what follows is skipped. */
  #do(work: () => Promise<void>): void {
    this.#queue.add(async () => {
      if (this.#failure !== undefined) return;
      try {
        await work();
      } catch (error) {
        this.#failure = error as Error;
      }
    });
  }
}
