/**
 * The loops of kernels/, which run over whole adapters and models in 128-bit vectors of WebAssembly. They see one memory of
 * their own, so what they are to work on is brought there, best by being read there in the first place.
 */
import { KERNELS_BASE64 } from '../../gen/kernels.js';

/** Element types that the loops read. */
export type KernelDtype = 'F32' | 'BF16' | 'F16';

/** What kernels/floats.ts calls them. */
const KINDS: Readonly<Record<KernelDtype, number>> = { F32: 0, BF16: 1, F16: 2 };
const PAGE = 65536;
/** Every stretch begins a cache line. */
const LINE = 64;

/** Functions of kernels/index.ts: addresses and counts as numbers. */
interface Exports {
  widen(from: number, to: number, count: number, kind: number): number;
  turn(from: number, to: number, rows: number, columns: number, scale: number, kind: number): number;
  /** from, kind, rows, inFeatures, room, bytes, width, scales, flip */
  quantise(...numbers: readonly number[]): void;
}

/** Memory that threads share. */
interface Memory {
  readonly buffer: SharedArrayBuffer;
}

/** Of the standard object, what is used here: the types of Node 20 do not have it. */
declare const WebAssembly: {
  readonly Memory: new (size: { initial: number; maximum: number; shared: true }) => Memory;
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: { env: { memory: Memory } }) => { readonly exports: unknown };
};

/** Places of a conversion to 8-bit columns; all are stretches of the memory. */
export interface QuantisePlaces {
  /** Stored rows [rows, inFeatures]. */
  readonly from: Uint8Array;
  /** {@link quantiseRoom} bytes. */
  readonly room: Uint8Array;
  /** bytes [inFeatures, width], width a multiple of 16 that is at least `rows`. */
  readonly bytes: Uint8Array;
  /** float32 [rows]. */
  readonly scales: Uint8Array;
}

/** Bytes that a conversion of rows of that length needs besides. */
export const quantiseRoom = (inFeatures: number): number => 512 + 20 * inFeatures;

let compiled: object | undefined;

/** The loops and their memory, for one thread; other threads may read the memory, which is shared. */
export class Kernels {
  private readonly memory: Memory;
  private readonly run: Exports;
  private used = LINE;

  private constructor(memory: Memory) {
    compiled ??= new WebAssembly.Module(Buffer.from(KERNELS_BASE64, 'base64'));
    this.memory = memory;
    this.run = new WebAssembly.Instance(compiled, { env: { memory } }).exports as Exports;
  }

  /**
   * Loops with a memory of their own; undefined where the process may not have one: its addresses are reserved far beyond
   * its bytes, which a limit of virtual memory may forbid.
   * @param bytes that {@link take} can give out
   */
  static open(bytes: number): Kernels | undefined {
    const pages = Math.ceil((bytes + 16 * LINE) / PAGE);
    try {
      return new Kernels(new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true }));
    } catch (error) {
      if (error instanceof RangeError) return undefined;
      throw error;
    }
  }

  /** A stretch of the memory, never given back. Throws RangeError where none is left. */
  take(bytes: number): Uint8Array {
    const stretch = new Uint8Array(this.memory.buffer, this.used, bytes);
    this.used += Math.ceil(bytes / LINE) * LINE;
    return stretch;
  }

  /** Whether bytes lie in this memory. */
  holds({ buffer }: Uint8Array): boolean {
    return buffer === this.memory.buffer;
  }

  /**
   * Writes stored floats to `to` as float32; F32 is looked at only. Exact.
   * @returns whether all of them are finite
   */
  widen(from: Uint8Array, dtype: KernelDtype, to: Uint8Array): boolean {
    const count = from.length / (dtype === 'F32' ? 4 : 2);
    return this.run.widen(from.byteOffset, to.byteOffset, count, KINDS[dtype]) === 1;
  }

  /**
   * Writes a stored matrix [rows, columns] to `to` as float32 [columns, rows], each number times `scale`, a float32.
   * @returns whether all that was written is finite
   */
  turn(
    from: Uint8Array,
    dtype: KernelDtype,
    to: Uint8Array,
    [rows, columns]: readonly [number, number],
    scale: number,
  ): boolean {
    return this.run.turn(from.byteOffset, to.byteOffset, rows, columns, scale, KINDS[dtype]) === 1;
  }

  /**
   * Rotates stored rows in blocks of 64 (server/model/rotation.ts) and rounds them to bytes in columns: see column-store.ts.
   * @param inFeatures a multiple of 64
   * @param zero the byte that stands for 0: 0 or 128
   */
  quantise(
    { from, room, bytes, scales }: QuantisePlaces,
    dtype: KernelDtype,
    [rows, inFeatures]: readonly [number, number],
    width: number,
    zero: number,
  ): void {
    this.run.quantise(
      ...[from.byteOffset, KINDS[dtype], rows, inFeatures, room.byteOffset, bytes.byteOffset],
      ...[width, scales.byteOffset, zero],
    );
  }
}
