/** What a runner asks of a store on the device beyond what the engine does. */

import type { GpuGraph } from '../../model/webgpu/gpu-graph.js';
import type { RowStore } from '../backend.js';
import type * as ort from '../ort.js';
import type { GpuDevice, GpuTensor } from './gpu-device.js';
import type { Step } from './gpu-step.js';

/** A store as a runner of the device sees it. */
export interface DeviceStore extends RowStore {
  /** The device that holds it: after a restart it is not the model's any more. */
  readonly device: GpuDevice;
  /** Makes room for a step's tokens. */
  prepare(step: Step): void;
  /**
   * Caches and places of a step's tokens as the graph takes them, and what it writes in place. To be called when the queue
   * is drained. Throws what failed of the store.
   */
  bindings(step: Step, graph: Pick<GpuGraph, 'inputs' | 'windows'>): StoreBindings;
  /**
   * Where a step can leave the logits of all slots for another graph to read, [slots, width]. To be called when the queue
   * is drained, and not again before the step is over. Throws as {@link bindings}.
   */
  logits(width: number): Promise<GpuTensor>;
}

/** What a step is fed of a store, and what of it the step writes in place. */
export interface StoreBindings {
  readonly feeds: Record<string, ort.Tensor>;
  readonly fetches: Record<string, ort.Tensor>;
}

/** The logits of a store's slots on the device, kept from step to step. */
export class StepLogits {
  readonly #device: GpuDevice;
  #tensor: GpuTensor | undefined;
  #freed = false;

  constructor(device: GpuDevice) {
    this.#device = device;
  }

  /** [slots, width] */
  async of(slots: number, width: number): Promise<GpuTensor> {
    if (this.#tensor?.dims[0] !== slots) {
      this.#device.free(this.#tensor);
      this.#tensor = undefined;
      const made = await this.#device.zeros('float32', [slots, width]);
      this.#tensor = made;
      // The store was released meanwhile: nobody would free it any more.
      if (this.#freed) this.#device.free(made);
    }
    if (this.#freed) throw new Error('the store was released');
    return this.#tensor;
  }

  free(): void {
    this.#freed = true;
    this.#device.free(this.#tensor);
  }
}
