/** Weights of a linear on their way to 8-bit columns; see server/model/column-store.ts for what is computed. */
import { BF16, F16, F32, loadFour, sizeBits } from './floats';

/** Values in a block that the rotation mixes. */
const BLOCK: usize = 64;
/** Rows that become bytes together: as many as a vector has bytes. */
const ROWS: usize = 16;
/** 1.5 * 2^52: after adding it, the low half of a double is the nearest whole number, ties to even. */
const ROUND: f64 = 6755399441055744.0;

/**
 * Rotates stored rows [rows, inFeatures] and writes them as bytes [inFeatures, width] and one float32 scale for each row.
 * @param rows at most `width`; behind the last whole 16 of them the bytes of a column are anything
 * @param inFeatures a multiple of 64
 * @param room for 512 + 16 * inFeatures + 4 * inFeatures bytes
 * @param width a multiple of 16
 * @param flip what every byte is XORed with: 0x80 adds 128
 */
export function quantise(
  from: usize,
  kind: i32,
  rows: usize,
  inFeatures: usize,
  room: usize,
  bytes: usize,
  width: usize,
  scales: usize,
  flip: i32,
): void {
  const lines = room + 512;
  const floats = lines + ROWS * inFeatures;
  const rowBytes = inFeatures << sizeBits(kind);
  const flips = i8x16.splat(<i8>flip);
  for (let first: usize = 0; first < rows; first += ROWS) {
    const count = min(ROWS, rows - first);
    for (let row: usize = 0; row < count; row += 1) {
      const source = from + (first + row) * rowBytes;
      if (kind === F32) copyRow(source, floats, inFeatures, F32);
      else if (kind === BF16) copyRow(source, floats, inFeatures, BF16);
      else copyRow(source, floats, inFeatures, F16);
      for (let at: usize = 0; at < inFeatures; at += BLOCK) rotate(floats + (at << 2));
      const most = largest(floats, inFeatures);
      const scale = most / 127;
      store<f32>(scales + ((first + row) << 2), scale);
      round(floats, inFeatures, scale === 0 ? 0 : 1 / <f64>scale, lines + row * inFeatures, flips);
    }
    for (let at: usize = 0; at < inFeatures; at += ROWS) {
      turnBytes(lines + at, inFeatures, room, bytes + at * width + first, width);
    }
  }
}

@inline
function copyRow(from: usize, to: usize, count: usize, kind: i32): void {
  for (let i: usize = 0; i < count; i += 4) v128.store(to + (i << 2), loadFour(from + (i << sizeBits(kind)), kind));
}

/** The Walsh-Hadamard transform of 64 float32, times 1/8, in place; in the order of additions of server/model/rotation.ts. */
function rotate(at: usize): void {
  const odd = i32x4(0, 0x80000000, 0, 0x80000000);
  const high = i32x4(0, 0, 0x80000000, 0x80000000);
  for (let i: usize = 0; i < BLOCK << 2; i += 16) {
    const v = v128.load(at + i);
    const pairs = f32x4.add(v128.shuffle<i32>(v, v, 0, 0, 2, 2), v128.xor(v128.shuffle<i32>(v, v, 1, 1, 3, 3), odd));
    const low = v128.shuffle<i64>(pairs, pairs, 0, 0);
    v128.store(at + i, f32x4.add(low, v128.xor(v128.shuffle<i64>(pairs, pairs, 1, 1), high)));
  }
  // Two of the stages at once: what they add up comes from the same four vectors.
  stages(at, 16);
  stages(at, 64);
  const eighth = f32x4.splat(0.125);
  for (let i: usize = 0; i < BLOCK << 2; i += 16) v128.store(at + i, f32x4.mul(v128.load(at + i), eighth));
}

/** Two stages: vectors `step` and 2 `step` bytes apart. */
@inline
function stages(at: usize, step: usize): void {
  for (let start: usize = 0; start < BLOCK << 2; start += 4 * step) {
    for (let i = start; i < start + step; i += 16) {
      const place = at + i;
      const a = v128.load(place);
      const b = v128.load(place + step);
      const c = v128.load(place + 2 * step);
      const d = v128.load(place + 3 * step);
      const ab = f32x4.add(a, b);
      const aLessB = f32x4.sub(a, b);
      const cd = f32x4.add(c, d);
      const cLessD = f32x4.sub(c, d);
      v128.store(place, f32x4.add(ab, cd));
      v128.store(place + step, f32x4.add(aLessB, cLessD));
      v128.store(place + 2 * step, f32x4.sub(ab, cd));
      v128.store(place + 3 * step, f32x4.sub(aLessB, cLessD));
    }
  }
}

/** The largest magnitude of `count` float32. */
function largest(at: usize, count: usize): f32 {
  let most = f32x4.splat(0);
  for (let i: usize = 0; i < count << 2; i += 16) most = f32x4.pmax(most, f32x4.abs(v128.load(at + i)));
  const halves = f32x4.pmax(most, v128.shuffle<i64>(most, most, 1, 1));
  return max(f32x4.extract_lane(halves, 0), f32x4.extract_lane(halves, 1));
}

/** Writes round(value * factor) of `count` float32 as bytes. */
function round(at: usize, count: usize, factor: f64, to: usize, flips: v128): void {
  const factors = f64x2.splat(factor);
  const magic = f64x2.splat(ROUND);
  for (let i: usize = 0; i < count; i += 16) {
    const from = at + (i << 2);
    const low = i16x8.narrow_i32x4_s(four(from, factors, magic), four(from + 16, factors, magic));
    const high = i16x8.narrow_i32x4_s(four(from + 32, factors, magic), four(from + 48, factors, magic));
    v128.store(to + i, v128.xor(i8x16.narrow_i16x8_s(low, high), flips));
  }
}

/** Four of them as int32. In doubles, so that no product is rounded before it is. */
@inline
function four(at: usize, factors: v128, magic: v128): v128 {
  const v = v128.load(at);
  const low = f64x2.promote_low_f32x4(v);
  const high = f64x2.promote_low_f32x4(v128.shuffle<i64>(v, v, 1, 1));
  const first = f64x2.add(f64x2.mul(low, factors), magic);
  const second = f64x2.add(f64x2.mul(high, factors), magic);
  return v128.shuffle<i32>(first, second, 0, 2, 4, 6);
}

/** 16 rows of 16 bytes, `stride` apart, to 16 columns `width` apart. `room`: 512 bytes. */
function turnBytes(from: usize, stride: usize, room: usize, to: usize, width: usize): void {
  for (let i: usize = 0; i < 16; i += 1) v128.store(room + (i << 4), v128.load(from + i * stride));
  interleave(room, room + 256);
  interleave(room + 256, room);
  interleave(room, room + 256);
  interleave(room + 256, room);
  for (let i: usize = 0; i < 16; i += 1) v128.store(to + i * width, v128.load(room + (i << 4)));
}

/** One of the four steps that turn 16 x 16 bytes: row i and row i + 8 byte by byte. */
function interleave(from: usize, to: usize): void {
  for (let i: usize = 0; i < 8; i += 1) {
    const a = v128.load(from + (i << 4));
    const b = v128.load(from + ((i + 8) << 4));
    v128.store(to + (i << 5), v128.shuffle<i8>(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
    v128.store(to + (i << 5) + 16, v128.shuffle<i8>(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
  }
}
