/**
 * 8-bit weights for integer products: bytes [in, out], one float32 scale for each output column, in the basis that
 * rotation.ts gives their input. Linears that read the same input lie side by side in one matrix.
 */
import { toFloat32 } from '../adapters/tensor-dtype.js';
import { transpose } from '../adapters/transpose.js';
import { heldFloats, type StoredFloats } from './checkpoint.js';
import { ColumnQuantiser } from './quantise-columns.js';
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
 * @param read the weight as stored, [out, in], or [in, out] for Conv1D
 */
export async function convertColumns(
  groups: readonly (readonly LinearSpec[])[],
  read: (linear: LinearSpec) => Promise<StoredFloats>,
  bytesAre: WeightBytes,
  shared?: SharedConversion,
): Promise<ColumnStore & { readonly bytes: Uint8Array }> {
  const { bytes: size, places } = columnLayout(groups);
  const bytes = shared?.bytes ?? new Uint8Array(size);
  const distinct = [...new Map(groups.map((linears) => [groupKey(linears), linears])).values()].reverse();
  const zero = weightZero(bytesAre);
  const quantiser = new ColumnQuantiser(Math.max(...distinct.map(([first]) => first!.inFeatures)));
  let own = 0;
  const next = () => shared?.next() ?? own++;
  for (let at = next(); at < distinct.length; at = next()) {
    const linears = distinct[at]!;
    const { weights, scales, columns } = places.get(groupKey(linears))!;
    const target = bytes.subarray(weights.offset, weights.offset + weights.length);
    const scaleTarget = new Float32Array(bytes.buffer, scales.offset, columns);
    let column = 0;
    for (const linear of linears) {
      const stored = await read(linear);
      const rows = linear.conv1d ? turned(stored, linear) : stored;
      const place = { bytes: target, zero, columns, from: column };
      quantiser.quantise(rows, linear.inFeatures, place, scaleTarget);
      column += linear.outFeatures;
    }
  }
  return { ...columnStore(places, 'columns.bin', bytesAre), bytes };
}

function groupKey(linears: readonly LinearSpec[]): string {
  return linears.map(({ weight }) => weight).join('+');
}

/** [in, out] to [out, in]. */
function turned({ bytes, dtype }: StoredFloats, { inFeatures, outFeatures }: LinearSpec): StoredFloats {
  return heldFloats(transpose(toFloat32(bytes, dtype), inFeatures, outFeatures));
}
