/**
 * Stored numbers on their way to where they stay: widened, turned over, checked. Bytes that lie in the memory of the kernels
 * go through them, which costs a fraction; all others through JavaScript, with the same result to the last bit.
 */
import type { Kernels } from '../kernels/kernels.js';
import { convertToFloat32, type FloatDtype, firstNonFinite } from './tensor-dtype.js';
import { transposeStored } from './transpose-stored.js';
import { WINDOW_BYTES } from './windows.js';

/** Bytes that a window's numbers take as float32, at most. */
const SCRATCH_BYTES = 2 * WINDOW_BYTES;

/** Memory of kernels for one {@link MatrixCopy} and so many windows. */
export const kernelBytes = (windows: number): number => SCRATCH_BYTES + windows * WINDOW_BYTES;

/** Copies numbers of one thread. */
export class MatrixCopy {
  private readonly kernels: Kernels | undefined;
  /** Where the kernels write what is then copied. */
  private readonly scratch: Uint8Array;

  /** @param kernels absent = all goes through JavaScript */
  constructor(kernels?: Kernels) {
    this.kernels = kernels;
    this.scratch = kernels?.take(SCRATCH_BYTES) ?? new Uint8Array(0);
  }

  /**
   * Writes whole stored numbers to `target` as float32.
   * @param bytes aligned to their elements' size
   * @returns whether all of them are finite
   */
  widen(bytes: Uint8Array, dtype: FloatDtype, target: Float32Array): boolean {
    const kernels = this.kernelsFor(bytes, target);
    if (kernels === undefined || dtype === 'F64') {
      convertToFloat32(bytes, dtype, target, 0);
      return firstNonFinite(target) < 0;
    }
    const finite = kernels.widen(bytes, dtype, this.scratch);
    target.set(floats(dtype === 'F32' ? bytes : this.scratch, target.length));
    return finite;
  }

  /**
   * Writes a stored matrix [rows, columns] to `target` as [columns, rows], times `scale`, which is rounded to float32.
   * @param bytes the whole matrix, aligned to its elements' size
   * @returns whether all that was written is finite
   */
  turn(
    bytes: Uint8Array,
    dtype: FloatDtype,
    target: Float32Array,
    [rows, columns]: readonly [number, number],
    scale: number,
  ): boolean {
    const kernels = this.kernelsFor(bytes, target);
    if (kernels === undefined || dtype === 'F64') {
      transposeStored(target, bytes, dtype, rows, columns, scale);
      return firstNonFinite(target) < 0;
    }
    const finite = kernels.turn(bytes, dtype, this.scratch, [rows, columns], scale);
    target.set(floats(this.scratch, target.length));
    return finite;
  }

  /** The kernels, where they can do it. */
  private kernelsFor(bytes: Uint8Array, target: Float32Array): Kernels | undefined {
    const fits = this.kernels?.holds(bytes) === true && target.byteLength <= this.scratch.length;
    return fits ? this.kernels : undefined;
  }
}

function floats({ buffer, byteOffset }: Uint8Array, length: number): Float32Array {
  return new Float32Array(buffer, byteOffset, length);
}
