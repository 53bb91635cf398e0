/**
 * What an engine thread is doing, told through memory that it shares with the main thread: a native call that never
 * returns holds the thread, so that it could send no message. Writing a mark costs two atomic additions.
 */

/** Places in the shared int32 array. */
const CHANGES = 0;
const RUNNING = 1;
const OPENING = 2;
const CELLS = 3;

/** One look at the marks. */
export interface MarksSeen {
  /** Goes up with every beginning and end of anything that is marked; it wraps around. */
  readonly changes: number;
  /** Steps and native runs under way. */
  readonly running: number;
  /** Graphs, or a whole device, being opened; the thread's runs may wait for that as long as it takes. */
  readonly opening: number;
}

/** The marks. The engine thread writes them, the main thread looks. */
export class StepMarks {
  /** What both threads share. */
  readonly memory: SharedArrayBuffer;
  readonly #cells: Int32Array;

  /** @param memory of the marks to look at or to write; absent = new ones */
  constructor(memory = new SharedArrayBuffer(CELLS * Int32Array.BYTES_PER_ELEMENT)) {
    this.memory = memory;
    this.#cells = new Int32Array(memory);
  }

  /** Marks a step, or a native run within or beside one. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return this.#within(RUNNING, work);
  }

  /** Marks what takes as long as it takes and is no step: reading weights, preparing them, compiling shaders. */
  open<T>(work: () => Promise<T>): Promise<T> {
    return this.#within(OPENING, work);
  }

  /** What is marked now. */
  look(): MarksSeen {
    const [changes, running, opening] = [CHANGES, RUNNING, OPENING].map((cell) => Atomics.load(this.#cells, cell));
    return { changes: changes!, running: running!, opening: opening! };
  }

  async #within<T>(cell: number, work: () => Promise<T>): Promise<T> {
    Atomics.add(this.#cells, cell, 1);
    Atomics.add(this.#cells, CHANGES, 1);
    try {
      return await work();
    } finally {
      Atomics.sub(this.#cells, cell, 1);
      Atomics.add(this.#cells, CHANGES, 1);
    }
  }
}
