/**
 * Rows in pages of a common pool. A slot is a list of pages: to move, reorder or copy rows is to share pages, and a page
 * that is shared is copied when somebody is about to write to it. Memory is taken page by page as rows grow.
 */

import { PAGE, pageInputs } from '../../model/webgpu/paged-attention.js';
import type { Stretch } from '../backend.js';
import * as ort from '../ort.js';
import { type DeviceStore, StepLogits, type StoreBindings } from './device-store.js';
import type { GpuDevice, GpuTensor } from './gpu-device.js';
import type { Step } from './gpu-step.js';
import { type PagePlace, type PagePool, SCRATCH } from './page-pool.js';

const pagesFor = (positions: number): number => Math.ceil(positions / PAGE);

/** Keys and values of rows as lists of pages. */
export class PagedStore implements DeviceStore {
  readonly device: GpuDevice;
  readonly #pool: PagePool;
  readonly #logits: StepLogits;
  /** By slot: its pages in order. */
  #tables: number[][];
  #capacity: number;

  constructor(device: GpuDevice, pool: PagePool, slots: number, capacity: number) {
    this.device = device;
    this.#pool = pool;
    this.#logits = new StepLogits(device);
    this.#tables = Array.from({ length: slots }, () => []);
    this.#capacity = capacity;
  }

  get broken(): 'lost' | 'failed' | undefined {
    if (this.device.closed) return 'lost';
    return this.#pool.failure === undefined ? undefined : 'failed';
  }

  get slots(): number {
    return this.#tables.length;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** What its slots may come to take, which budgets go by; pages are taken as rows need them. */
  get bytes(): number {
    return this.slots * pagesFor(this.#capacity) * this.#pool.pageBytes;
  }

  reserve(time: number): void {
    this.#capacity = Math.max(this.#capacity, time);
  }

  reshape(slots: number, capacity: number, sources: readonly (number | undefined)[], length: number): void {
    const before = this.#tables;
    this.#tables = Array.from({ length: slots }, (_, slot) => {
      const source = sources[slot];
      if (source === undefined) return [];
      return before[source]!.slice(0, pagesFor(length)).map((page) => this.#pool.share(page));
    });
    this.#capacity = capacity;
    this.#dropAll(before);
  }

  copyStretch({ slot, from, count }: Stretch, target: PagedStore, targetSlot: number, targetFrom: number): void {
    const source = this.#tables[slot]!;
    if (from % PAGE !== 0 || targetFrom % PAGE !== 0) {
      target.#own(targetSlot, targetFrom, targetFrom + count);
      const places = (table: readonly number[], first: number) =>
        Array.from({ length: count }, (_, i) => placeOf(table, first + i));
      this.#pool.copy(places(source, from), places(target.#tables[targetSlot]!, targetFrom));
      return;
    }
    const into = target.#tables[targetSlot]!;
    const pages = source.slice(from / PAGE, pagesFor(from + count)).map((page) => this.#pool.share(page));
    for (const page of into.splice(targetFrom / PAGE, pages.length, ...pages)) this.#pool.drop(page);
  }

  prepare({ batch, ids, lengths, free }: Step): void {
    const sequence = ids.length / batch;
    for (const [slot, length] of lengths.entries()) {
      if (free.has(slot)) continue;
      this.reserve(length + sequence);
      this.#own(slot, length, length + sequence);
    }
  }

  bindings({ batch, ids, lengths, free }: Step): StoreBindings {
    const sequence = ids.length / batch;
    const longest = lengths.reduce((most, length) => Math.max(most, length), 0) + sequence;
    const width = pagesFor(longest);
    const table = new Int32Array(batch * width).fill(SCRATCH);
    for (const [slot, pages] of this.#tables.entries())
      if (!free.has(slot)) table.set(pages.slice(0, width), slot * width);
    const int32 = (values: Int32Array, dims: readonly number[]) => new ort.Tensor('int32', values, dims);
    const starts = Int32Array.from({ length: batch + 1 }, (_, row) => row * sequence);
    return {
      feeds: {
        ...this.#pool.feeds,
        [pageInputs.starts]: int32(starts, [batch + 1]),
        [pageInputs.past]: int32(lengths, [batch]),
        [pageInputs.table]: int32(table, [batch, width]),
        [pageInputs.bounds]: int32(Int32Array.of(sequence, longest), [2]),
      },
      fetches: {},
    };
  }

  logits(width: number): Promise<GpuTensor> {
    return this.#logits.of(this.slots, width);
  }

  release(): void {
    this.#dropAll(this.#tables);
    this.#tables = this.#tables.map(() => []);
    this.#logits.free();
  }

  /** Makes the pages of positions `from`..`end - 1` the slot's own, to be written to; those before stay as they are. */
  #own(slot: number, from: number, end: number): void {
    const table = this.#tables[slot]!;
    for (let index = Math.floor(from / PAGE); index < pagesFor(end); index += 1) {
      const page = table[index];
      if (page === undefined) table.push(this.#pool.take());
      else if (this.#pool.isShared(page)) {
        const mine = this.#pool.take();
        this.#pool.copy(wholePage(page), wholePage(mine));
        this.#pool.drop(page);
        table[index] = mine;
      }
    }
  }

  #dropAll(tables: readonly (readonly number[])[]): void {
    for (const page of tables.flat()) this.#pool.drop(page);
  }
}

const wholePage = (page: number): PagePlace[] => Array.from({ length: PAGE }, (_, offset) => ({ page, offset }));

const placeOf = (table: readonly number[], position: number): PagePlace => ({
  page: table[Math.floor(position / PAGE)]!,
  offset: position % PAGE,
});
