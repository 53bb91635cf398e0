/**
 * A backend that goes on elsewhere when its device has failed for good: the model is opened there, with the adapters that
 * are loaded, and whatever runs or loads meanwhile waits for that. Stores of the failed device are lost; the loop computes
 * their rows again.
 */
import type { BoundAdapter } from '../adapters/types.js';
import type { DecoderSpec } from '../model/spec.js';
import {
  type DecodeSlot,
  type DevicePlace,
  type LargestLogits,
  type OpenedBackend,
  type RowStore,
  type StepBackend,
  StoreLost,
} from './backend.js';
import { StepMarks } from './step-marks.js';

/** How a model goes on that its device has failed. */
export interface Fallback {
  /** Opens the model elsewhere, because of `failure`. What it throws says why that is impossible. */
  open(failure: string): Promise<OpenedBackend>;
  /** Where the opening is marked; absent = nowhere. */
  readonly marks?: StepMarks | undefined;
}

/** A device while it works, then what takes its place. Its engine has the model's rows to itself: no others work beside it. */
export class FallbackBackend implements StepBackend {
  readonly spec: DecoderSpec;
  headInputs: Float32Array | undefined;
  largest: LargestLogits | undefined;
  /** Why neither the device nor what was to take its place can go on. */
  broken: Error | undefined;
  readonly #fallback: Fallback;
  /** Those that are loaded, by digest. */
  readonly #adapters = new Map<string, BoundAdapter>();
  #current: StepBackend;
  #place: DevicePlace;
  /** Under way while the model is opened elsewhere. It never rejects: {@link broken} tells. */
  #moving: Promise<void> | undefined;
  /** Of the failed device. */
  #restarts = 0;
  #runMs = 0;
  #closed = false;

  /** @param place where `device` is */
  constructor(device: StepBackend, place: DevicePlace, fallback: Fallback) {
    this.spec = device.spec;
    this.#current = device;
    this.#place = place;
    this.#fallback = fallback;
  }

  get place(): DevicePlace {
    return this.#place;
  }

  get positionBytes(): number {
    return this.#current.positionBytes;
  }

  get runMs(): number {
    return this.#runMs + this.#current.runMs;
  }

  get restarts(): number {
    return this.#restarts + (this.#current.restarts ?? 0);
  }

  get guessesPay(): boolean {
    return this.#current.guessesPay ?? false;
  }

  get kept(): StepBackend['kept'] {
    return this.#current.kept;
  }

  createStore(slots: number, capacity: number): RowStore {
    return this.#current.createStore(slots, capacity);
  }

  prefill(...chunk: Parameters<StepBackend['prefill']>): Promise<Float32Array> {
    const [, , store] = chunk;
    return this.#step(store, (backend) => backend.prefill(...chunk));
  }

  get prefillTogether(): StepBackend['prefillTogether'] {
    if (this.#current.prefillTogether === undefined) return undefined;
    return (slots, store, adapter) => this.#step(store, (backend) => backend.prefillTogether!(slots, store, adapter));
  }

  decode(slots: readonly (DecodeSlot | undefined)[], store: RowStore): Promise<Float32Array> {
    return this.#step(store, (backend) => backend.decode(slots, store));
  }

  get decodeGreedy(): StepBackend['decodeGreedy'] {
    if (this.#current.decodeGreedy === undefined) return undefined;
    return (slots, store) => this.#step(store, (backend) => backend.decodeGreedy!(slots, store));
  }

  get openAhead(): StepBackend['openAhead'] {
    const current = this.#current;
    return current.openAhead && (() => current.openAhead!());
  }

  async load(adapter: BoundAdapter): Promise<void> {
    let backend: StepBackend;
    do {
      backend = await this.#ready();
      try {
        await backend.load(adapter);
      } catch (error) {
        if (!(await this.#replaced(backend))) throw error;
      }
      // What a device took that failed at once is not where the model is now.
    } while (backend !== (await this.#ready()));
    this.#adapters.set(adapter.digest, adapter);
  }

  unload(digest: string): void {
    this.#adapters.delete(digest);
    this.#current.unload(digest);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#current.close();
  }

  /** The backend that the model is on, when it is on one. */
  async #ready(): Promise<StepBackend> {
    await this.#moving;
    return this.#current;
  }

  async #step<T>(store: RowStore, run: (backend: StepBackend) => Promise<T>): Promise<T> {
    const backend = await this.#ready();
    // The device itself knows which of its stores it has lost.
    if (backend.restarts === undefined && store.broken === 'lost') throw new StoreLost('the model has moved meanwhile');
    try {
      const outcome = await run(backend);
      this.headInputs = backend.headInputs;
      this.largest = backend.largest;
      return outcome;
    } catch (error) {
      if (await this.#replaced(backend)) throw new StoreLost('the device failed for good', { cause: error });
      throw error;
    }
  }

  /** Whether another backend is in the place of the one that just threw. One that failed for good is replaced first. */
  async #replaced(backend: StepBackend): Promise<boolean> {
    if (backend === this.#current && backend.broken !== undefined && this.broken === undefined && !this.#closed) {
      const { marks = new StepMarks() } = this.#fallback;
      this.#moving ??= marks
        .open(() => this.#move(backend, backend.broken!.message))
        .finally(() => {
          this.#moving = undefined;
        });
    }
    await this.#moving;
    return backend !== this.#current;
  }

  async #move(failed: StepBackend, failure: string): Promise<void> {
    try {
      const { backend, device, why } = await this.#fallback.open(failure);
      for (const adapter of this.#adapters.values()) await backend.load(adapter);
      if (this.#closed) return await backend.close();
      this.#restarts = failed.restarts ?? 0;
      this.#runMs = failed.runMs;
      this.#current = backend;
      this.#place = { device, why };
    } catch (error) {
      this.broken = new Error(`${failure}; and the model cannot go on elsewhere: ${(error as Error).message}`);
      return;
    }
    // Nobody waits for the rest of it.
    failed.close().catch(() => {});
  }
}
