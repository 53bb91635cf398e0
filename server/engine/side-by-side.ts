/**
 * Low-rank weights of several selections side by side, as a step's graph reads them: units of one size per linear, in
 * buffers that belong to a store's slots and are rewritten only where a unit changed.
 */

import { siteInputs } from '../model/graph-sites.js';
import type { LinearSpec } from '../model/spec.js';
import * as ort from './ort.js';
import type { LowRank, RowAdapter } from './row-adapter.js';

/** A selection's pair of a linear, or one of so many parts of its ranks. */
export interface Unit {
  readonly adapter: RowAdapter;
  /** 0 .. parts - 1 */
  readonly part: number;
  readonly parts: number;
}

/** Buffers of one linear: room for `capacity` units of [rank, in] and [rank, out], of which a step sees the first ones. */
interface SiteBuffers {
  readonly rank: number;
  readonly capacity: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** Names what a unit holds. */
export const unitKey = ({ adapter, part, parts }: Unit): string =>
  parts === 1 ? adapter.key : `${adapter.key}#${part}/${parts}`;

/** Ranks that a unit has at a linear at least, so that its parts hold the whole pair. */
export const unitRank = (pair: LowRank | undefined, parts: number): number => Math.ceil((pair?.rank ?? 0) / parts);

/** The weights of one store's slots. */
export class SideBySide {
  readonly #linears: readonly LinearSpec[];
  readonly #buffers = new Map<string, SiteBuffers>();
  /** What each unit's part of the buffers of all sites holds; units behind its end = unknown. */
  readonly #held: string[] = [];

  constructor(linears: readonly LinearSpec[]) {
    this.#linears = linears;
  }

  /** Keys of the units that lie there now, in order. */
  get held(): readonly string[] {
    return this.#held;
  }

  /** Inputs a [units, rank, in] and b [units, rank, out] of every linear; valid until the next call. */
  feeds(units: readonly Unit[]): Record<string, ort.Tensor> {
    const feeds: Record<string, ort.Tensor> = {};
    const count = units.length;
    const changed = units.flatMap((unit, i) => (this.#held[i] === unitKey(unit) ? [] : [i]));
    let renewed = false;
    for (const { module, inFeatures, outFeatures } of this.#linears) {
      const pairs = units.map(({ adapter }) => adapter.linears.get(module));
      const rank = units.reduce((most, { parts }, i) => Math.max(most, unitRank(pairs[i], parts)), 0);
      const known = this.#buffers.get(module);
      const fits = known !== undefined && known.rank === rank && known.capacity >= count;
      const buffers = fits ? known : siteBuffers(count, rank, inFeatures, outFeatures);
      this.#buffers.set(module, buffers);
      renewed ||= !fits;
      for (const i of fits ? changed : units.keys())
        fill(buffers, i, pairs[i], units[i]!.part, inFeatures, outFeatures);
      const view = (values: Float32Array, width: number) =>
        new ort.Tensor('float32', values.subarray(0, count * rank * width), [count, rank, width]);
      feeds[siteInputs.a(module)] = view(buffers.a, inFeatures);
      feeds[siteInputs.b(module)] = view(buffers.b, outFeatures);
    }
    // What lies behind these units stays what it was, except in new buffers, which have nothing there.
    if (renewed) this.#held.length = Math.min(this.#held.length, count);
    for (const [i, unit] of units.entries()) this.#held[i] = unitKey(unit);
    return feeds;
  }
}

/** Room for twice as many units at each growth, so that a batch that grows slot by slot is not copied as often. */
function siteBuffers(units: number, rank: number, inFeatures: number, outFeatures: number): SiteBuffers {
  const capacity = 2 ** Math.ceil(Math.log2(units));
  const room = (width: number) => new Float32Array(capacity * rank * width);
  return { rank, capacity, a: room(inFeatures), b: room(outFeatures) };
}

/** Writes a unit's ranks of a pair and zeroes what they leave over: a stale rank row could otherwise still add something. */
function fill(
  buffers: SiteBuffers,
  unit: number,
  pair: LowRank | undefined,
  part: number,
  inFeatures: number,
  outFeatures: number,
): void {
  for (const [target, source, width] of [
    [buffers.a, pair?.a, inFeatures],
    [buffers.b, pair?.b, outFeatures],
  ] as const) {
    const size = buffers.rank * width;
    const own = source?.subarray(part * size, (part + 1) * size);
    if (own !== undefined) target.set(own, unit * size);
    target.fill(0, unit * size + (own?.length ?? 0), (unit + 1) * size);
  }
}
