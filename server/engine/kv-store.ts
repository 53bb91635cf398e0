import type { RowStore, Stretch } from './backend.js';

/**
 * Keys and values of a batch, time-major: [time, slots, kvHeads, headDim] for each layer. Time grows at the end, so a
 * step feeds a view of the live part without a copy, and growing copies one stretch. Rows own slots; a free slot holds
 * stale finite numbers that the mask hides.
 */
export class KvStore implements RowStore {
  /** Per layer: keys and values, each of at least `capacity * slots * width` floats. */
  readonly keys: Float32Array[];
  readonly values: Float32Array[];
  readonly width: number;
  #slots: number;
  #capacity: number;

  /**
   * @param layers number of decoder layers
   * @param width kvHeads * headDim
   * @param slots rows side by side
   * @param capacity positions allocated at first
   */
  constructor(layers: number, width: number, slots: number, capacity: number) {
    this.#slots = slots;
    this.width = width;
    this.#capacity = capacity;
    this.keys = Array.from({ length: layers }, () => new Float32Array(capacity * slots * width));
    this.values = Array.from({ length: layers }, () => new Float32Array(capacity * slots * width));
  }

  get slots(): number {
    return this.#slots;
  }

  /** Positions allocated. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Bytes allocated. */
  get bytes(): number {
    return [this.keys, this.values].flat().reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  reserve(time: number): void {
    this.reserveAhead(time, Number.POSITIVE_INFINITY);
  }

  reserveAhead(time: number, parts: number): void {
    if (time <= this.#capacity) return;
    const length = time * this.#slots * this.width;
    let left = parts;
    for (const side of [this.keys, this.values]) {
      for (const [layer, old] of side.entries()) {
        if (old.length >= length) continue;
        if (left <= 0) return;
        const grown = new Float32Array(length);
        grown.set(old);
        side[layer] = grown;
        left -= 1;
      }
    }
    this.#capacity = time;
  }

  reshape(slots: number, capacity: number, sources: readonly (number | undefined)[], length: number): void {
    const { width } = this;
    const from = this.#slots * width;
    const runs = runsOf(sources);
    this.#rebuild(slots, capacity, (old, fresh) => {
      for (const { source, slot, count } of runs)
        copyColumn(old, source * width, from, fresh, slot * width, slots * width, count * width, length);
    });
  }

  reorder(sources: readonly (number | undefined)[], length: number): void {
    const { width } = this;
    const moves = [...sources.entries()].flatMap(([to, from]) =>
      from === undefined || from === to ? [] : { from, to },
    );
    const held = new Float32Array(moves.length * width); // one position of the rows that move
    for (const values of [...this.keys, ...this.values]) {
      for (let time = 0; time < length; time += 1) {
        const start = time * this.#slots;
        for (const [i, { from }] of moves.entries()) {
          held.set(values.subarray((start + from) * width, (start + from + 1) * width), i * width);
        }
        for (const [i, { to }] of moves.entries()) {
          values.set(held.subarray(i * width, (i + 1) * width), (start + to) * width);
        }
      }
    }
  }

  /** Replaces the arrays one after the other, so that old and new ones are never all there at once. */
  #rebuild(slots: number, capacity: number, move: (old: Float32Array, fresh: Float32Array) => void): void {
    for (const side of [this.keys, this.values]) {
      for (const [layer, old] of side.entries()) {
        const fresh = new Float32Array(capacity * slots * this.width);
        move(old, fresh);
        side[layer] = fresh;
      }
    }
    this.#slots = slots;
    this.#capacity = capacity;
  }

  /** Appends new tokens of all slots: keys and values are [count, slots, width], for positions from `time` on. */
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

  copyStretch({ slot, from, count }: Stretch, target: KvStore, targetSlot: number, targetFrom: number): void {
    const { width } = this;
    const stride = this.#slots * width;
    const targetStride = target.slots * width;
    const start = from * stride + slot * width;
    const targetStart = targetFrom * targetStride + targetSlot * width;
    for (const side of ['keys', 'values'] as const) {
      for (const [layer, source] of this[side].entries()) {
        copyColumn(source, start, stride, target[side][layer]!, targetStart, targetStride, width, count);
      }
    }
  }
}

/** Slots side by side that come from slots side by side: their floats at one time are copied at once. */
function runsOf(sources: readonly (number | undefined)[]): { slot: number; source: number; count: number }[] {
  const runs: { slot: number; source: number; count: number }[] = [];
  for (const [slot, source] of sources.entries()) {
    if (source === undefined) continue;
    const last = runs.at(-1);
    if (last !== undefined && last.slot + last.count === slot && last.source + last.count === source) last.count += 1;
    else runs.push({ slot, source, count: 1 });
  }
  return runs;
}

/** Copies `count` times `width` floats between arrays whose rows are `stride` apart. */
function copyColumn(
  source: Float32Array,
  start: number,
  stride: number,
  target: Float32Array,
  targetStart: number,
  targetStride: number,
  width: number,
  count: number,
): void {
  if (stride === width && targetStride === width) {
    target.set(source.subarray(start, start + count * width), targetStart);
    return;
  }
  for (let time = 0; time < count; time += 1) {
    const at = start + time * stride;
    target.set(source.subarray(at, at + width), targetStart + time * targetStride);
  }
}
