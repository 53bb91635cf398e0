/**
 * The pages of all rows on the device, [pages, PAGE, kvHeads, headDim] for the keys and for the values of each layer, and who
 * holds which. Several rows may hold a page that none of them writes to any more. Who holds what is known at once; what the
 * device has to do for it is queued, in order, and steps wait for it.
 */

import { GraphBuilder } from '../../model/onnx-graph.js';
import type { DecoderSpec } from '../../model/spec.js';
import { PAGE, poolNames } from '../../model/webgpu/paged-attention.js';
import type * as ort from '../ort.js';
import { int64 } from '../step-inputs.js';
import { placesTensor } from './gpu-caches.js';
import { emitZeros, type GpuDevice, type GpuSession, type GpuTensor } from './gpu-device.js';
import { type GpuQueue, GpuWork } from './gpu-queue.js';

/** What free slots write to and nobody reads. */
export const SCRATCH = 0;

/** The pool grows by a quarter, and by no fewer pages than this. */
const LEAST_GROWTH = 16;
const BYTES_PER_VALUE = 2;

/** Where a position lies. */
export interface PagePlace {
  readonly page: number;
  /** 0..PAGE - 1 */
  readonly offset: number;
}

/** The sessions that move pages. */
interface PoolSessions {
  readonly copy: GpuSession;
  readonly grow: GpuSession;
}

/** Pages, counts of their holders, and the tensors that they lie in. */
export class PagePool {
  /** Bytes of a page, all layers together. */
  readonly pageBytes: number;
  readonly #device: GpuDevice;
  readonly #work: GpuWork;
  readonly #dims: readonly [kvHeads: number, headDim: number];
  readonly #names: readonly string[];
  readonly #sessions: PoolSessions;
  /** By page: how many hold it. */
  readonly #holders: number[] = [1];
  readonly #free: number[] = [];
  #tensors: GpuTensor[] = [];

  private constructor(device: GpuDevice, queue: GpuQueue, spec: DecoderSpec, sessions: PoolSessions) {
    this.#device = device;
    this.#work = new GpuWork(queue);
    this.#dims = [spec.kvHeads, spec.headDim];
    this.#names = spec.layers.flatMap((_, layer) => [poolNames.keys(layer), poolNames.values(layer)]);
    this.pageBytes = this.#names.length * PAGE * spec.kvHeads * spec.headDim * BYTES_PER_VALUE;
    this.#sessions = sessions;
  }

  static async open(device: GpuDevice, queue: GpuQueue, spec: DecoderSpec): Promise<PagePool> {
    const { kvHeads, headDim } = spec;
    const dims = (pages: string) => [pages, PAGE, kvHeads, headDim];
    const copy = new GraphBuilder();
    const from = copy.input('from', 'int64', ['count', 2]);
    const to = copy.input('to', 'int64', ['count', 2]);
    const tensors = spec.layers.length * 2;
    for (let i = 0; i < tensors; i += 1) {
      const pages = copy.input(`pages.${i}`, 'float16', dims('pages'));
      copy.into('ScatterND', [pages, to, copy.op('GatherND', [pages, from])], [`out.${i}`]);
      copy.output(`out.${i}`, 'float16', dims('pages'));
    }
    const grow = new GraphBuilder();
    const zeros = emitZeros(grow, 'float16', grow.input('more', 'int64', [4]));
    const grown = grow.op('Concat', [grow.input('old', 'float16', dims('pages')), zeros], { axis: 0 });
    grow.output(grown, 'float16', dims('grown'));
    const pool = new PagePool(device, queue, spec, {
      copy: await device.session(copy.finish('copy-positions'), false),
      grow: await device.session(grow.finish('grow-pool'), true),
    });
    for (let i = 0; i < tensors; i += 1)
      pool.#tensors.push(await device.zeros('float16', [LEAST_GROWTH, PAGE, kvHeads, headDim]));
    pool.#addFree(SCRATCH + 1, LEAST_GROWTH - 1);
    return pool;
  }

  /** Why nothing can be read from it any more; absent = it is whole. */
  get failure(): Error | undefined {
    return this.#work.failure;
  }

  /** Pages that are held, the scratch page not counted. */
  get held(): number {
    return this.#holders.length - 1 - this.#free.length;
  }

  /** The pools of all layers as a step takes them: to be called when the queue is drained. Throws what failed. */
  get feeds(): Record<string, GpuTensor> {
    this.#work.check();
    // What lies behind the pool is written and read without an error.
    if (this.#tensors.some(({ dims }) => dims[0] !== this.#holders.length))
      throw new Error('the pool is not as large as its pages');
    return Object.fromEntries(this.#names.map((name, i) => [name, this.#tensors[i]!]));
  }

  /** A page for one holder; what is in it means nothing. */
  take(): number {
    if (this.#free.length === 0) this.#grow();
    const page = this.#free.pop()!;
    this.#holders[page] = 1;
    return page;
  }

  /** Counts one more holder. */
  share(page: number): number {
    this.#holders[page]! += 1;
    return page;
  }

  /** True where others hold the page, too. */
  isShared(page: number): boolean {
    return this.#holders[page]! > 1;
  }

  /** Counts one holder less; the last one's page is free. */
  drop(page: number): void {
    this.#holders[page]! -= 1;
    if (this.#holders[page] === 0) this.#free.push(page);
  }

  /** Copies positions; no place may be among both. */
  copy(from: readonly PagePlace[], to: readonly PagePlace[]): void {
    if (from.length === 0) return;
    this.#work.add(async () => {
      const feeds: Record<string, ort.Tensor> = { from: placesOf(from), to: placesOf(to) };
      const fetches: Record<string, ort.Tensor> = {};
      for (const [i, tensor] of this.#tensors.entries()) {
        feeds[`pages.${i}`] = tensor;
        fetches[`out.${i}`] = tensor;
      }
      for (const wrapper of Object.values(await this.#sessions.copy.run(feeds, fetches))) wrapper.dispose();
    });
  }

  #grow(): void {
    const before = this.#holders.length;
    const pages = Math.max(LEAST_GROWTH, before >> 2);
    this.#addFree(before, pages);
    // One tensor after the other, so that little is held twice.
    this.#work.add(async () => {
      for (const [i, old] of this.#tensors.entries()) {
        const more = int64([pages, PAGE, ...this.#dims]);
        const [grown] = Object.values(await this.#sessions.grow.run({ old, more }));
        this.#tensors[i] = this.#device.adopt(grown!);
        this.#device.free(old);
      }
    });
  }

  /** Pages from number `first` on, the lowest to be taken first. */
  #addFree(first: number, count: number): void {
    for (let page = first + count - 1; page >= first; page -= 1) {
      this.#holders[page] = 0;
      this.#free.push(page);
    }
  }
}

/** int64 [count, 2] of (page, offset). */
function placesOf(places: readonly PagePlace[]): ort.Tensor {
  return placesTensor(places.length, 2, (i) => [places[i]!.page, places[i]!.offset]);
}
