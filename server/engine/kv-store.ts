import type { RowStore } from './backend.js';

/**
 * Keys and values of a batch, time-major: [time, slots, kvHeads, headDim] for each layer. Time grows at the end, so a
 * step feeds a view of the live part without a copy, and growing copies one stretch. Rows own slots; a free slot holds
 * stale finite numbers that the mask hides.
 */
export class KvStore implements RowStore {
  /** Per layer: keys and values, each `capacity * slots * width` floats. */
  readonly keys: Float32Array[];
  readonly values: Float32Array[];
  readonly slots: number;
  readonly width: number;
  #capacity: number;

  /**
   * @param layers number of decoder layers
   * @param width kvHeads * headDim
   * @param slots rows side by side
   * @param capacity positions allocated at first
   */
  constructor(layers: number, width: number, slots: number, capacity: number) {
    this.slots = slots;
    this.width = width;
    this.#capacity = capacity;
    this.keys = Array.from({ length: layers }, () => new Float32Array(capacity * slots * width));
    this.values = Array.from({ length: layers }, () => new Float32Array(capacity * slots * width));
  }

  /** Positions allocated. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Bytes allocated. */
  get bytes(): number {
    return this.keys.length * 2 * this.#capacity * this.slots * this.width * 4;
  }

  /** Makes room for `time` positions; grows by half at least, so that growing is rare. */
  reserve(time: number): void {
    if (time <= this.#capacity) return;
    const capacity = Math.max(time, Math.ceil(this.#capacity * 1.5));
    for (const side of [this.keys, this.values]) {
      for (const [layer, old] of side.entries()) {
        const grown = new Float32Array(capacity * this.slots * this.width);
        grown.set(old);
        side[layer] = grown;
      }
    }
    this.#capacity = capacity;
  }

  /** Appends new tokens of a one-slot store: `source` holds `count * width` values for positions from `time` on. */
  append(layer: number, time: number, keys: Float32Array, values: Float32Array): void {
    this.keys[layer]!.set(keys, time * this.slots * this.width);
    this.values[layer]!.set(values, time * this.slots * this.width);
  }

  /** Writes one new token per slot: `source` is [slots, width]; slot s goes to position `times[s]` (-1 = skip). */
  scatter(layer: number, times: Int32Array, keys: Float32Array, values: Float32Array): void {
    const { width, slots } = this;
    const keyStore = this.keys[layer]!;
    const valueStore = this.values[layer]!;
    for (let slot = 0; slot < slots; slot += 1) {
      const time = times[slot]!;
      if (time < 0) continue;
      let target = (time * slots + slot) * width;
      for (let i = slot * width; i < (slot + 1) * width; i += 1, target += 1) {
        keyStore[target] = keys[i]!;
        valueStore[target] = values[i]!;
      }
    }
  }

  /** Nothing to do: the arrays go when nobody refers to them. */
  release(): void {}

  /** Copies `length` positions of one slot into a slot of another store (which must have room). */
  copyRow(slot: number, length: number, target: KvStore, targetSlot: number): void {
    const { width } = this;
    for (const side of ['keys', 'values'] as const) {
      for (let layer = 0; layer < this.keys.length; layer += 1) {
        const from = this[side][layer]!;
        const to = target[side][layer]!;
        for (let time = 0; time < length; time += 1) {
          const start = (time * this.slots + slot) * width;
          to.set(from.subarray(start, start + width), (time * target.slots + targetSlot) * width);
        }
      }
    }
  }
}
