/** What an adapter's matrices pass through: widened, turned over, scaled, checked. */
import { BF16, F16, F32, loadFour, loadOne, noteFinite, sizeBits, wereFinite } from './floats';

/**
 * Checks `count` stored floats, and writes them to `to` as float32 unless they are that already.
 * @returns 1 where all are finite, else 0
 */
export function widen(from: usize, to: usize, count: usize, kind: i32): i32 {
  if (kind === F32) return widenOf(from, to, count, F32);
  return kind === BF16 ? widenOf(from, to, count, BF16) : widenOf(from, to, count, F16);
}

@inline
function widenOf(from: usize, to: usize, count: usize, kind: i32): i32 {
  const fours = count & ~3;
  let seen = i32x4.splat(0);
  for (let i: usize = 0; i < fours; i += 4) {
    const values = loadFour(from + (i << sizeBits(kind)), kind);
    seen = noteFinite(seen, values);
    if (kind !== F32) v128.store(to + (i << 2), values);
  }
  for (let i = fours; i < count; i += 1) {
    const value = loadOne(from + (i << sizeBits(kind)), kind);
    seen = noteFinite(seen, value);
    if (kind !== F32) v128.store_lane<f32>(to + (i << 2), value, 0);
  }
  return wereFinite(seen);
}

/**
 * Writes a stored matrix [rows, columns] to `to` as float32 [columns, rows], times `scale`.
 * @returns 1 where all that was written is finite, else 0
 */
export function turn(from: usize, to: usize, rows: usize, columns: usize, scale: f32, kind: i32): i32 {
  if (kind === F32) return turnOf(from, to, rows, columns, scale, F32);
  return kind === BF16
    ? turnOf(from, to, rows, columns, scale, BF16)
    : turnOf(from, to, rows, columns, scale, F16);
}

@inline
function turnOf(from: usize, to: usize, rows: usize, columns: usize, scale: f32, kind: i32): i32 {
  const fourRows = rows & ~3;
  const fourColumns = columns & ~3;
  const rowBytes = columns << sizeBits(kind);
  const columnBytes = rows << 2;
  const scales = f32x4.splat(scale);
  let seen = i32x4.splat(0);
  for (let row: usize = 0; row < fourRows; row += 4) {
    let source = from + row * rowBytes;
    let target = to + (row << 2);
    for (let column: usize = 0; column < fourColumns; column += 4) {
      const a = loadFour(source, kind);
      const b = loadFour(source + rowBytes, kind);
      const c = loadFour(source + 2 * rowBytes, kind);
      const d = loadFour(source + 3 * rowBytes, kind);
      const abLow = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
      const abHigh = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
      const cdLow = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
      const cdHigh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
      const first = f32x4.mul(v128.shuffle<i64>(abLow, cdLow, 0, 2), scales);
      const second = f32x4.mul(v128.shuffle<i64>(abLow, cdLow, 1, 3), scales);
      const third = f32x4.mul(v128.shuffle<i64>(abHigh, cdHigh, 0, 2), scales);
      const fourth = f32x4.mul(v128.shuffle<i64>(abHigh, cdHigh, 1, 3), scales);
      seen = noteFinite(noteFinite(noteFinite(noteFinite(seen, first), second), third), fourth);
      v128.store(target, first);
      v128.store(target + columnBytes, second);
      v128.store(target + 2 * columnBytes, third);
      v128.store(target + 3 * columnBytes, fourth);
      source += <usize>4 << sizeBits(kind);
      target += 4 * columnBytes;
    }
  }
  // What is left: the last columns of all rows, and of the last rows the others.
  for (let row: usize = 0; row < rows; row += 1) {
    for (let column: usize = row < fourRows ? fourColumns : 0; column < columns; column += 1) {
      const value = f32x4.mul(loadOne(from + row * rowBytes + (column << sizeBits(kind)), kind), scales);
      seen = noteFinite(seen, value);
      v128.store_lane<f32>(to + column * columnBytes + (row << 2), value, 0);
    }
  }
  return wereFinite(seen);
}
