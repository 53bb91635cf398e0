/**
 * ggml's block formats to float32, element for element as ggml's reference functions (`dequantize_row_*`) give it: all
 * products but the last step are exact in float64, so each value is rounded once, as there.
 */
import { convertToFloat32, isFloatDtype, isTensorDtype } from '../tensor-dtype.js';
import type { GgmlType } from './ggml-types.js';

/** Writes the elements of one block, which begins at `at` in `source`, to `out` from `to` on. */
type BlockReader = (source: Uint8Array, at: number, out: Float32Array, to: number) => void;

let halves: Float32Array | undefined;

/** float32 of each float16 bit pattern, made at first use. */
function halfTable(): Float32Array {
  if (halves === undefined) {
    halves = new Float32Array(65536);
    convertToFloat32(new Uint8Array(Uint16Array.from(halves, (_, bits) => bits).buffer), 'F16', halves, 0);
  }
  return halves;
}

/** The float16 at `at`. */
export function halfAt(source: Uint8Array, at: number): number {
  return halfTable()[source[at]! | (source[at + 1]! << 8)]!;
}

const q4_0: BlockReader = (source, at, out, to) => {
  const d = halfAt(source, at);
  for (let i = 0; i < 16; i += 1) {
    const byte = source[at + 2 + i]!;
    out[to + i] = d * ((byte & 15) - 8);
    out[to + 16 + i] = d * ((byte >> 4) - 8);
  }
};

const q4_1: BlockReader = (source, at, out, to) => {
  const d = halfAt(source, at);
  const m = halfAt(source, at + 2);
  for (let i = 0; i < 16; i += 1) {
    const byte = source[at + 4 + i]!;
    out[to + i] = d * (byte & 15) + m;
    out[to + 16 + i] = d * (byte >> 4) + m;
  }
};

/** The 32 fifth bits of a block of Q5_0 or Q5_1. */
const fifthBits = (source: Uint8Array, at: number): number =>
  source[at]! | (source[at + 1]! << 8) | (source[at + 2]! << 16) | (source[at + 3]! << 24);

const q5_0: BlockReader = (source, at, out, to) => {
  const d = halfAt(source, at);
  const high = fifthBits(source, at + 2);
  for (let i = 0; i < 16; i += 1) {
    const byte = source[at + 6 + i]!;
    out[to + i] = d * (((byte & 15) | (((high >>> i) & 1) << 4)) - 16);
    out[to + 16 + i] = d * (((byte >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16);
  }
};

const q5_1: BlockReader = (source, at, out, to) => {
  const d = halfAt(source, at);
  const m = halfAt(source, at + 2);
  const high = fifthBits(source, at + 4);
  for (let i = 0; i < 16; i += 1) {
    const byte = source[at + 8 + i]!;
    out[to + i] = d * ((byte & 15) | (((high >>> i) & 1) << 4)) + m;
    out[to + 16 + i] = d * ((byte >> 4) | (((high >>> (i + 16)) & 1) << 4)) + m;
  }
};

const q8_0: BlockReader = (source, at, out, to) => {
  const d = halfAt(source, at);
  for (let i = 0; i < 32; i += 1) out[to + i] = d * ((source[at + 2 + i]! << 24) >> 24);
};

/** 6-bit scale and minimum `j` (0..7) of the 12 packed bytes at `at`, of Q4_K and Q5_K. */
function scaleAndMinimum(source: Uint8Array, at: number, j: number): readonly [scale: number, minimum: number] {
  if (j < 4) return [source[at + j]! & 63, source[at + j + 4]! & 63];
  const low = source[at + j + 4]!;
  return [(low & 15) | ((source[at + j - 4]! >> 6) << 4), (low >> 4) | ((source[at + j]! >> 6) << 4)];
}

/** Q4_K (`fifth` = false) and Q5_K: eight groups of 32 with 6-bit scales and minimums. */
const superBlock =
  (fifth: boolean): BlockReader =>
  (source, at, out, to) => {
    const d = halfAt(source, at);
    const dMinimum = halfAt(source, at + 2);
    const high = at + 16;
    const low = fifth ? at + 48 : at + 16;
    for (let group = 0; group < 8; group += 1) {
      const [scale, minimum] = scaleAndMinimum(source, at + 4, group);
      const step = d * scale;
      const offset = dMinimum * minimum;
      const nibbles = low + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      for (let i = 0; i < 32; i += 1) {
        let q = (source[nibbles + i]! >> shift) & 15;
        if (fifth) q |= ((source[high + i]! >> group) & 1) << 4;
        out[to + group * 32 + i] = step * q - offset;
      }
    }
  };

const q6_K: BlockReader = (source, at, out, to) => {
  const d = halfAt(source, at + 208);
  for (let half = 0; half < 2; half += 1) {
    const low = at + half * 64;
    const high = at + 128 + half * 32;
    const scales = at + 192 + half * 8;
    for (let group = 0; group < 4; group += 1) {
      for (let i = 0; i < 32; i += 1) {
        const scale = (source[scales + group * 2 + (i >> 4)]! << 24) >> 24;
        const nibble = (source[low + (group & 1) * 32 + i]! >> (group >> 1 ? 4 : 0)) & 15;
        const q = (nibble | (((source[high + i]! >> (group * 2)) & 3) << 4)) - 32;
        out[to + half * 128 + group * 32 + i] = d * scale * q;
      }
    }
  }
};

const BLOCKS: Readonly<Record<string, BlockReader>> = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  Q4_K: superBlock(false),
  Q5_K: superBlock(true),
  Q6_K: q6_K,
};

/** Names of the types that {@link dequantise} takes. */
export const READABLE_TYPES: readonly string[] = ['F32', 'F16', 'BF16', ...Object.keys(BLOCKS)];

/**
 * Whole blocks as float32.
 * @param source bytes of whole blocks; for plain types its byteOffset must be a multiple of the element size
 * @param at where in `out` the first element goes
 * Throws Error for a type that is not one of {@link READABLE_TYPES}.
 */
export function dequantise(source: Uint8Array, type: GgmlType, out: Float32Array, at: number): void {
  const { name, blockBytes, blockElements } = type;
  if (isTensorDtype(name) && isFloatDtype(name) && name !== 'F64') {
    convertToFloat32(source, name, out, at);
    return;
  }
  const read = BLOCKS[name];
  if (read === undefined) throw new Error(`type ${name} is not read`);
  for (let from = 0, to = at; from < source.length; from += blockBytes, to += blockElements)
    read(source, from, out, to);
}
