/**
 * Rotates weights and rounds them to bytes in columns: q = round(w / s), s = max|w| / 127 of a column. Most of a model's
 * conversion is this, so it is done by the kernels where the rotation is the plain one; JavaScript does the same to the last
 * bit.
 */
import { DTYPE_BITS, toFloat32 } from '../adapters/tensor-dtype.js';
import { type KernelDtype, Kernels, quantiseRoom } from '../kernels/kernels.js';
import type { StoredFloats } from './checkpoint.js';
import { rotateRows, rotationShape } from './rotation.js';

/** Largest magnitude of a weight's byte. */
const LEVEL = 127;
/** 1.5 * 2^52: adding and subtracting it rounds to the nearest whole number, ties to even. */
const ROUND = 6755399441055744;
/** Rows and columns turned at a time, so that reads and writes stay in the processor's cache. */
const TILE = 64;
/** Bytes that the kernels turn at a time: much less, and copying their lines out takes longer than making them. */
const STRIPE_BYTES = 1 << 19;

/** Columns `from`.. of a matrix of bytes [in, columns], in which `zero` stands for 0. */
export interface Columns {
  readonly bytes: Uint8Array;
  readonly zero: number;
  readonly columns: number;
  readonly from: number;
}

/** The kernels and their places, for rows of at most some length. */
interface Stripes {
  readonly kernels: Kernels;
  /** Rows that are turned at a time, a multiple of 16. */
  readonly width: number;
  readonly from: Uint8Array;
  readonly room: Uint8Array;
  readonly bytes: Uint8Array;
  readonly scales: Uint8Array;
}

/** Quantises the matrices of one model, one after another. */
export class ColumnQuantiser {
  private readonly stripes: Stripes | undefined;

  /**
   * @param longest most values of a row
   * @param kernels false: JavaScript alone
   */
  constructor(longest: number, kernels = true) {
    this.stripes = kernels ? openStripes(longest) : undefined;
  }

  /**
   * Quantises stored rows [out, in] into columns.
   * @param scales float32 [columns]
   */
  quantise({ bytes, dtype }: StoredFloats, inFeatures: number, target: Columns, scales: Float32Array): void {
    if (this.stripes === undefined || dtype === 'F64' || !isPlain(inFeatures)) {
      quantiseFloats(toFloat32(bytes, dtype), inFeatures, target, scales);
      return;
    }
    quantiseStripes(this.stripes, bytes, dtype, inFeatures, target, scales);
  }
}

/** Whether rows are rotated in blocks of 64 and no further. */
function isPlain(inFeatures: number): boolean {
  const { block, mixed } = rotationShape(inFeatures);
  return block === 64 && !mixed;
}

function openStripes(longest: number): Stripes | undefined {
  const width = Math.max(64, Math.min(1024, Math.floor(STRIPE_BYTES / longest / 16) * 16));
  const sizes = [width * longest * 4, quantiseRoom(longest), width * longest, width * 4];
  const kernels = Kernels.open(sizes.reduce((sum, size) => sum + size, 0));
  if (kernels === undefined) return undefined;
  const [from, room, bytes, scales] = sizes.map((size) => kernels.take(size)) as [
    Uint8Array,
    Uint8Array,
    Uint8Array,
    Uint8Array,
  ];
  return { kernels, width, from, room, bytes, scales };
}

function quantiseStripes(
  { kernels, width, ...places }: Stripes,
  stored: Uint8Array,
  dtype: KernelDtype,
  inFeatures: number,
  { bytes, zero, columns, from }: Columns,
  scales: Float32Array,
): void {
  const rowBytes = (inFeatures * DTYPE_BITS[dtype]) / 8;
  const outFeatures = stored.length / rowBytes;
  const made = Buffer.from(places.bytes.buffer, places.bytes.byteOffset, places.bytes.length);
  for (let first = 0; first < outFeatures; first += width) {
    const rows = Math.min(width, outFeatures - first);
    places.from.set(stored.subarray(first * rowBytes, (first + rows) * rowBytes));
    kernels.quantise(places, dtype, [rows, inFeatures], width, zero);
    scales.set(new Float32Array(places.scales.buffer, places.scales.byteOffset, rows), from + first);
    for (let i = 0, at = from + first; i < inFeatures; i += 1, at += columns) {
      made.copy(bytes, at, i * width, i * width + rows);
    }
  }
}

/**
 * The same in JavaScript, for [out, in] floats. `values` stay as they are: the rows of a tile are the only copy.
 */
function quantiseFloats(
  values: Float32Array,
  inFeatures: number,
  { bytes, zero, columns, from }: Columns,
  scales: Float32Array,
): void {
  const back = ROUND - zero;
  const outFeatures = values.length / inFeatures;
  const inverse = new Float64Array(TILE);
  for (let tile = 0; tile < outFeatures; tile += TILE) {
    const rows = values.slice(tile * inFeatures, (tile + TILE) * inFeatures);
    rotateRows(rows, inFeatures);
    const count = rows.length / inFeatures;
    for (let o = 0; o < count; o += 1) {
      let most = 0;
      for (let at = o * inFeatures, end = at + inFeatures; at < end; at += 1) {
        const size = Math.abs(rows[at]!);
        if (size > most) most = size;
      }
      const scale = Math.fround(most / LEVEL);
      scales[from + tile + o] = scale;
      inverse[o] = scale === 0 ? 0 : 1 / scale;
    }
    for (let part = 0; part < inFeatures; part += TILE) {
      const partEnd = Math.min(part + TILE, inFeatures);
      for (let o = 0; o < count; o += 1) {
        const factor = inverse[o]!;
        const row = o * inFeatures;
        for (let i = part, at = part * columns + from + tile + o; i < partEnd; i += 1, at += columns) {
          bytes[at] = rows[row + i]! * factor + ROUND - back;
        }
      }
    }
  }
}
