/**
 * 8-bit weights for integer products: bytes [in, out], one float32 scale for each output column, in the basis that
 * rotation.ts gives their input. Linears that read the same input lie side by side in one matrix.
 */
import { rotateRows } from './rotation.js';
import type { LinearSpec } from './spec.js';

/** A stretch of the store's bytes. */
export interface StoredBytes {
  readonly offset: number;
  readonly length: number;
}

/** Linears that share an input, as one matrix. */
export interface ColumnGroup {
  /** int8 or uint8 [in, columns]; `packed` where the file holds them as the processor's kernel wants them, too. */
  readonly weights: StoredBytes & { readonly packed?: string | undefined };
  /** float32 [columns] */
  readonly scales: StoredBytes;
  readonly columns: number;
}

/** All matrices of a model, as one file that a session reads or takes from memory. */
export interface ColumnStore {
  readonly bytesAre: WeightBytes;
  /** Name of the external file as the graph knows it. */
  readonly location: string;
  group(linears: readonly LinearSpec[]): ColumnGroup;
}

/** `signed`: -127..127; `unsigned`: the same with 128 added. Processors differ in which of them they multiply exactly. */
export type WeightBytes = 'signed' | 'unsigned';

/** Changes with the layout and the rounding: bytes of another number are not these. */
export const columnForm = (bytesAre: WeightBytes): string => (bytesAre === 'signed' ? 'columns2' : 'columns2u');

/** What a graph calls such bytes. */
export const weightType = (bytesAre: WeightBytes): 'int8' | 'uint8' => (bytesAre === 'signed' ? 'int8' : 'uint8');

/** The byte that stands for 0. */
export const weightZero = (bytesAre: WeightBytes): number => (bytesAre === 'signed' ? 0 : 128);

/** Largest magnitude of a weight's byte. */
const LEVEL = 127;
/** 1.5 * 2^52: adding and subtracting it rounds to the nearest whole number, ties to even. */
const ROUND = 6755399441055744;
/** Rows and columns turned at a time, so that reads and writes stay in the processor's cache. */
const TILE = 64;

/** Where every group lies, from the description alone: conversion and cache agree on it. */
export function columnLayout(groups: readonly (readonly LinearSpec[])[]): {
  readonly bytes: number;
  readonly places: ReadonlyMap<string, ColumnGroup>;
} {
  const places = new Map<string, ColumnGroup>();
  let total = 0;
  const take = (length: number): StoredBytes => {
    const offset = total;
    total = Math.ceil((offset + length) / 64) * 64;
    return { offset, length };
  };
  for (const linears of groups) {
    const key = groupKey(linears);
    if (places.has(key)) continue;
    const columns = linears.reduce((sum, { outFeatures }) => sum + outFeatures, 0);
    places.set(key, { weights: take(columns * linears[0]!.inFeatures), scales: take(columns * 4), columns });
  }
  return { bytes: total, places };
}

/**
 * The store of a file that is laid out so.
 * @param packed by the name of a matrix in the graph, what the session needs to know of its packed form
 */
export function columnStore(
  places: ReadonlyMap<string, ColumnGroup>,
  location: string,
  bytesAre: WeightBytes,
  packed?: ReadonlyMap<string, string>,
): ColumnStore {
  return {
    location,
    bytesAre,
    group: (linears) => {
      const place = places.get(groupKey(linears));
      if (place === undefined) throw new Error(`no stored columns for ${groupKey(linears)}`);
      const form = packed?.get(matrixName(linears));
      return form === undefined ? place : { ...place, weights: { ...place.weights, packed: form } };
    },
  };
}

/** Name of the linears' matrix in a graph. */
export function matrixName(linears: readonly LinearSpec[]): string {
  return `columns.${linears[0]!.weight}`;
}

/** Where several threads convert one model: what they write to, and how they divide the work. */
export interface SharedConversion {
  /** As long as {@link columnLayout} says. */
  readonly bytes: Uint8Array;
  /** The next group that nobody has taken, counted from 0. */
  next(): number;
}

/**
 * Converts every group, one weight after another, so that only one float copy exists at a time; with `shared`, those that
 * this thread takes. The last groups go first: the head is the largest, and nobody should wait for it at the end.
 * @param read the weight as float32, as stored ([out, in], or [in, out] for Conv1D)
 */
export async function convertColumns(
  groups: readonly (readonly LinearSpec[])[],
  read: (linear: LinearSpec) => Promise<Float32Array>,
  bytesAre: WeightBytes,
  shared?: SharedConversion,
): Promise<ColumnStore & { readonly bytes: Uint8Array }> {
  const { bytes: size, places } = columnLayout(groups);
  const bytes = shared?.bytes ?? new Uint8Array(size);
  const distinct = [...new Map(groups.map((linears) => [groupKey(linears), linears])).values()].reverse();
  const zero = weightZero(bytesAre);
  let own = 0;
  const next = () => shared?.next() ?? own++;
  for (let at = next(); at < distinct.length; at = next()) {
    const linears = distinct[at]!;
    const { weights, scales, columns } = places.get(groupKey(linears))!;
    const target = bytes.subarray(weights.offset, weights.offset + weights.length);
    const scaleTarget = new Float32Array(bytes.buffer, scales.offset, columns);
    let column = 0;
    for (const linear of linears) {
      const values = await read(linear);
      const rows = linear.conv1d ? transpose(values, linear.inFeatures, linear.outFeatures) : values;
      quantiseColumns(rows, linear.inFeatures, { bytes: target, zero, columns, from: column }, scaleTarget);
      column += linear.outFeatures;
    }
  }
  return { ...columnStore(places, 'columns.bin', bytesAre), bytes };
}

function groupKey(linears: readonly LinearSpec[]): string {
  return linears.map(({ weight }) => weight).join('+');
}

/** Columns `from`.. of a matrix of bytes [in, columns], in which `zero` stands for 0. */
interface Columns {
  readonly bytes: Uint8Array;
  readonly zero: number;
  readonly columns: number;
  readonly from: number;
}

/**
 * Rotates [out, in] floats and quantises them into columns: q = round(w / s), s = max|w| / 127. `values` stay as they are:
 * the rows of a tile are the only copy.
 */
function quantiseColumns(
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

/** [rows, columns] to [columns, rows]. */
function transpose(values: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let r = 0; r < rows; r += 1) {
    for (let c = 0; c < columns; c += 1) turned[c * rows + r] = values[r * columns + c]!;
  }
  return turned;
}
