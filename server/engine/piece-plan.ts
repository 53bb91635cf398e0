/**
 * How the rows of a step are cut into pieces (model/graph-pieces.ts), and what that costs against even groups of rows
 * (row-groups.ts). Pure arithmetic; see docs/decisions/0036.
 */
import type { LinearSpec } from '../model/spec.js';
import { BASE_ROW, type RowAdapter } from './row-adapter.js';
import { type Unit, unitKey, unitRank } from './side-by-side.js';

/** A product of several rows first copies its weights into the kernel's order: per further row so much of a reading. */
const FURTHER_ROW = 0.2;
/** Adding up one piece's result for one row takes as long as reading a rank. */
const SUMMAND = 1;
/** What choosing and adding take at each linear besides that, in floats that are read meanwhile. */
const NODES = 100_000;
/** Other pieces than those that lie there must be written first. */
const OTHER_UNIT = 1.1;

/** Some ranks of one selection for some of its rows. */
export interface Piece extends Unit {
  /** Slots, at most as many as the plan's members; none = a piece of zeros. */
  readonly slots: readonly number[];
}

/** Pieces of a step. */
export interface PiecePlan {
  /** Most ranks of a piece. */
  readonly unit: number;
  readonly pieces: readonly Piece[];
  /** Rows of each piece. */
  readonly members: number;
  /** Most pieces of a row. */
  readonly levels: number;
}

interface Selection {
  readonly adapter: RowAdapter;
  readonly slots: readonly number[];
  /** Its largest rank anywhere. */
  readonly rank: number;
}

/**
 * The cheapest pieces for rows by slot (undefined = free); undefined where no row has low-rank weights.
 * @param held the unit of the pieces that lie there; undefined = none
 */
export function planPieces(slots: readonly (RowAdapter | undefined)[], held?: number): PiecePlan | undefined {
  const selections = selectionsOf(slots);
  let best: { plan: PiecePlan; cost: number } | undefined;
  for (const unit of new Set(selections.flatMap(({ rank }) => [rank, Math.ceil(rank / 2)]))) {
    for (const members of new Set(selections.map((one) => one.slots.length))) {
      const plan = cut(selections, slots.length, unit, members);
      const reading = plan.pieces.length * unit * perRank(members);
      const cost = (reading + SUMMAND * slots.length * plan.levels) * (unit === held ? 1 : OTHER_UNIT);
      if (best === undefined || cost < best.cost) best = { plan, cost };
    }
  }
  return best?.plan;
}

/** What the low-rank products of a step of so many rows cost in pieces, in floats that one row reads in that time. */
export function piecesCost(plan: PiecePlan, rows: number, linears: readonly LinearSpec[]): number {
  const { pieces, members, levels } = plan;
  const sizes = linears.reduce((sum, { inFeatures, outFeatures }) => sum + inFeatures + outFeatures, 0);
  return readingCost(pieces, members, linears) + SUMMAND * rows * levels * sizes + NODES * linears.length;
}

/** The same for even groups. */
export function groupsCost(
  groups: readonly (RowAdapter | undefined)[],
  rows: number,
  linears: readonly LinearSpec[],
): number {
  const units = groups.map((adapter) => ({ adapter: adapter ?? BASE_ROW, part: 0, parts: 1 }));
  return readingCost(units, rows / groups.length, linears);
}

/**
 * Inputs of the graph for pieces that lie in this order.
 * @param slots number of rows
 * @returns rows [pieces, members] and sums [slots, levels], see {@link pieceInputs}
 */
export function pieceIndices(
  { pieces, members, levels }: PiecePlan,
  slots: number,
): { rows: number[]; sums: number[] } {
  const rows = new Array<number>(pieces.length * members).fill(slots);
  const own = Array.from({ length: slots }, (): number[] => []);
  for (const [i, piece] of pieces.entries()) {
    for (const [member, slot] of piece.slots.entries()) {
      rows[i * members + member] = slot;
      own[slot]!.push(i * members + member);
    }
  }
  const zero = pieces.findIndex((piece) => piece.slots.length === 0) * members;
  return { rows, sums: own.flatMap((places) => Array.from({ length: levels }, (_, level) => places[level] ?? zero)) };
}

/** The same pieces, each where its weights lie already if they do. */
export function settled(pieces: readonly Piece[], held: readonly string[]): Piece[] {
  const placed = new Array<Piece | undefined>(pieces.length).fill(undefined);
  const waiting = new Map<string, Piece[]>();
  for (const piece of pieces) {
    const key = unitKey(piece);
    const alike = waiting.get(key);
    if (alike === undefined) waiting.set(key, [piece]);
    else alike.push(piece);
  }
  for (const place of placed.keys()) placed[place] = waiting.get(held[place] ?? '\0')?.shift();
  const rest = [...waiting.values()].flat();
  return placed.map((piece) => piece ?? rest.shift()!);
}

function selectionsOf(slots: readonly (RowAdapter | undefined)[]): Selection[] {
  const byKey = new Map<string, { adapter: RowAdapter; slots: number[]; rank: number }>();
  for (const [slot, adapter] of slots.entries()) {
    if (adapter === undefined || adapter.linears.size === 0) continue;
    const known = byKey.get(adapter.key);
    if (known !== undefined) known.slots.push(slot);
    else byKey.set(adapter.key, { adapter, slots: [slot], rank: largestRank(adapter) });
  }
  return [...byKey.values()];
}

function largestRank({ linears }: RowAdapter): number {
  let most = 0;
  for (const { rank } of linears.values()) most = Math.max(most, rank);
  return most;
}

/** Pieces of so many ranks and rows. */
function cut(selections: readonly Selection[], slots: number, unit: number, members: number): PiecePlan {
  const pieces: Piece[] = [];
  const partsOf = ({ rank }: Selection): number => Math.ceil(rank / unit);
  const levels = Math.max(...selections.map(partsOf));
  for (const selection of selections) {
    const { adapter, slots: own } = selection;
    const parts = partsOf(selection);
    for (let part = 0; part < parts; part += 1)
      for (let at = 0; at < own.length; at += members)
        pieces.push({ adapter, part, parts, slots: own.slice(at, at + members) });
  }
  const full = selections.filter((selection) => partsOf(selection) === levels);
  // Rows with fewer pieces, or none, add zeros instead. Those come from a piece of zeros: a place that another piece has
  // left over holds zeros times its weights, which is not a number where a weight has overflowed.
  if (full.reduce((sum, { slots: own }) => sum + own.length, 0) < slots)
    pieces.push({ adapter: BASE_ROW, part: 0, parts: 1, slots: [] });
  return { unit, pieces, members, levels };
}

const perRank = (members: number): number => 1 + FURTHER_ROW * (members - 1);

/** Floats that the units of all linears hold, each as wide as the widest of its linear. */
function readingCost(units: readonly Unit[], members: number, linears: readonly LinearSpec[]): number {
  const kinds = [...new Map(units.map((unit) => [`${unit.adapter.key}/${unit.parts}`, unit])).values()];
  let floats = 0;
  for (const { module, inFeatures, outFeatures } of linears) {
    const ranks = kinds.map(({ adapter, parts }) => unitRank(adapter.linears.get(module), parts));
    floats += Math.max(...ranks) * (inFeatures + outFeatures);
  }
  return floats * units.length * perRank(members);
}
