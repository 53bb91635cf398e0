/**
 * What the engine does next, as a pure function of its state: prompt tokens of one row (or of several short ones), a
 * decode step of all running rows, or taking a row's memory away. Chunks and decodes take turns, so running streams
 * keep their pace while prompts are read. Rows are admitted by the memory that they need now, not by what they may
 * grow to; when it runs out, the newest row of the lowest priority gives its memory back and is recomputed later.
 */
import { chunkOf, chunkTokens, type Pressure } from './chunk-size.js';
import { BLOCK, inBlocks, NEVER_APART, placeRow, positionsOf } from './placement.js';
import { firstOf, MAX_OVERTAKEN, rowsByKey, type Shares, shareOf, type WaitingRow } from './queue-order.js';
import type { Service } from './service-ledger.js';
import type { Costs } from './step-costs.js';

/** A row that decodes. */
export interface StartedRow {
  readonly id: number;
  readonly key: string;
  readonly priority: number;
  readonly arrival: number;
  readonly preemptions: number;
  /** Positions that it holds. */
  readonly length: number;
}

/** A row whose tokens are being read. */
export interface PrefillingRow {
  readonly id: number;
  readonly key: string;
  readonly priority: number;
  readonly arrival: number;
  readonly overtaken: number;
  /** Positions that it will hold before it decodes, and those still missing. */
  readonly tokens: number;
  readonly tokensLeft: number;
  /** True: it has told something of its prompt already and cannot begin anew. */
  readonly fixed: boolean;
}

/** All that a decision depends on. */
export interface SchedulerState {
  /** In the order of arrival. */
  readonly waiting: readonly WaitingRow[];
  /** In the order of their starts; the last one is worked on. */
  readonly prefilling: readonly PrefillingRow[];
  /** The rows that decode, by group; see `placement.ts`. */
  readonly groups: readonly (readonly StartedRow[])[];
  /** Prompt tokens read since the last decode step; 0 = the last step was one. */
  readonly readSinceDecode: number;
  readonly costs: Costs;
  readonly service: Service;
}

/** Bounds of the engine. */
export interface SchedulerLimits {
  /** Rows decoded together, those being prefilled included. */
  readonly maxBatch: number;
  /** Most tokens of one prefill step. */
  readonly prefillChunk: number;
  /** Most positions of all stores together. */
  readonly maxPositions: number;
  /** Cached positions whose reading takes as long as reading the weights once; absent = rows are never kept apart. */
  readonly stepPositions?: number | undefined;
  /** Short prompts that may be read in one step; absent = 1. */
  readonly maxJoined?: number | undefined;
}

/** The next step. */
export type Decision =
  | { readonly kind: 'idle' }
  | { readonly kind: 'decode' }
  | { readonly kind: 'prefill'; readonly id: number; readonly tokens: number }
  /** Take waiting rows: one, and prefill at most `tokens`; or several, and prefill all of them in one step. */
  | { readonly kind: 'start'; readonly ids: readonly number[]; readonly tokens: number }
  /** Take a row's memory away; it waits again. */
  | { readonly kind: 'preempt'; readonly id: number };

/** Rows that are partly read at once: a long prompt, a shorter one that passed it, and one that passed that. */
const MAX_PREFILLING = 3;
/** A row passes the one being read if it has at most this share of what the other has left. */
const PASSING_SHARE = 1 / 4;
/** So often a row makes way for others while there is memory for it; then it keeps its place. */
const MAX_YIELDS = 2;

/**
 * A row may start before the decode step that is due if its selection is behind, while no more than so many tokens were read
 * since the last one.
 */
const MOST_READ_AHEAD = 192;

/** Decides the next step. */
export function decide(state: SchedulerState, limits: SchedulerLimits): Decision {
  const running = state.groups.flat();
  const pressure = pressureOf(state, running.length, limits);
  let tokens = chunkTokens({ ...pressure, costs: state.costs, read: state.readSinceDecode });
  const due = running.length > 0 && tokens === 0;
  if (due && state.readSinceDecode > MOST_READ_AHEAD) return decodeOrPreempt(state, limits);
  const shares = { rows: rowsByKey([...running, ...state.prefilling]), service: state.service };
  const first = firstOf(state.waiting, shares);
  const current = state.prefilling.at(-1);
  const starts = first !== undefined && (current === undefined || passes(first, current, state));
  if (due) {
    if (!starts || !goesAhead(first, running, shares)) return decodeOrPreempt(state, limits);
    tokens = chunkTokens({ ...pressure, costs: state.costs, read: 0 });
  }
  if (starts) {
    if (admits(state, [first], limits)) return start(state, first, tokens, pressure, limits);
    const victim = victimFor(first, state, shares);
    if (victim !== undefined) return { kind: 'preempt', id: victim.id };
  }
  // Only a start goes before the decode step that is due.
  if (current !== undefined && !due) {
    return { kind: 'prefill', id: current.id, tokens: chunkOf(current, tokens, pressure) };
  }
  return running.length > 0 ? decodeOrPreempt(state, limits) : { kind: 'idle' };
}

/** Positions that a row needs at most, alone; more than the limit can never run. */
export function positionsFor(totalTokens: number): number {
  return inBlocks(totalTokens);
}

/** A shorter or more urgent row may pass the one being read, but not for ever. */
function passes(row: WaitingRow, current: PrefillingRow, { prefilling }: SchedulerState): boolean {
  if (prefilling.length >= MAX_PREFILLING || current.overtaken >= MAX_OVERTAKEN) return false;
  if (row.priority !== current.priority) return row.priority > current.priority;
  return row.tokens <= current.tokensLeft * PASSING_SHARE;
}

/** True when the rows find slots and memory, with some to grow for all. A row by itself is always admitted. */
function admits(state: SchedulerState, rows: readonly WaitingRow[], limits: SchedulerLimits): boolean {
  const started = startedCount(state);
  if (started + rows.length > limits.maxBatch) return false;
  if (started === 0 && rows.length === 1) return true;
  const most = rows.reduce((sum, { preemptions }) => Math.max(sum, preemptions), 0);
  // A row that had to go before needs more room each time, so that two rows do not take turns in recomputing.
  const growth = BLOCK * (started + rows.length) * 2 ** Math.min(most, 4);
  return needed(state, rows, limits) + growth <= limits.maxPositions;
}

/** Positions for the next token of all started rows and the whole prompts of `more` rows. */
function needed(state: SchedulerState, more: readonly { readonly tokens: number }[], limits: SchedulerLimits): number {
  const groups = state.groups.map((rows) => rows.map(({ length }) => length));
  let inStores = 0;
  for (const { tokens } of [...state.prefilling, ...more]) {
    const { group } = placeRow(groups, tokens, limits.stepPositions ?? NEVER_APART, Number.POSITIVE_INFINITY)!;
    groups[group] = [...(groups[group] ?? []), tokens];
    inStores += inBlocks(tokens);
  }
  return groups.reduce((sum, lengths) => sum + positionsOf(lengths), inStores);
}

function start(
  state: SchedulerState,
  first: WaitingRow,
  tokens: number,
  pressure: Pressure,
  limits: SchedulerLimits,
): Decision {
  const rows = [first];
  if (first.joinable) {
    let longest = first.tokens;
    for (const row of state.waiting) {
      if (rows.length >= (limits.maxJoined ?? 1)) break;
      if (row === first || !row.joinable || row.key !== first.key || row.priority < first.priority) continue;
      const padded = Math.max(longest, row.tokens);
      if (padded * (rows.length + 1) > tokens || !admits(state, [...rows, row], limits)) break;
      longest = padded;
      rows.push(row);
    }
  }
  return {
    kind: 'start',
    ids: rows.map(({ id }) => id),
    tokens: rows.length > 1 ? tokens : chunkOf({ tokens: first.tokens, tokensLeft: first.tokens }, tokens, pressure),
  };
}

/** Rows that decode, and rows that could have a first token soon; the most tokens of a chunk. */
function pressureOf(state: SchedulerState, running: number, limits: SchedulerLimits): Pressure {
  const free = Math.max(0, limits.maxBatch - startedCount(state));
  return {
    running,
    hungry: state.prefilling.length + Math.min(state.waiting.length, free),
    limit: limits.prefillChunk,
  };
}

/** True when a selection has more than the waiting row's by two rows. */
function isAhead(key: string, row: WaitingRow, shares: Shares): boolean {
  return key !== row.key && shareOf(key, shares) >= shareOf(row.key, shares) + 2 * shares.service.perRow;
}

/** True when a row that starts may delay those that run: none is more urgent, and the selection of one is ahead. */
function goesAhead(row: WaitingRow, running: readonly StartedRow[], shares: Shares): boolean {
  return (
    running.every(({ priority }) => priority <= row.priority) && running.some(({ key }) => isAhead(key, row, shares))
  );
}

/** Decodes, unless the next tokens do not fit. The last row always goes on: alone it fits. */
function decodeOrPreempt(state: SchedulerState, limits: SchedulerLimits): Decision {
  if (startedCount(state) > 1 && needed(state, [], limits) > limits.maxPositions) {
    const victim = lastOf([...state.groups.flat(), ...state.prefilling.filter(({ fixed }) => !fixed)]);
    if (victim !== undefined) return { kind: 'preempt', id: victim.id };
  }
  return { kind: 'decode' };
}

/**
 * A running row that has to make way for a waiting one: of a lower priority, or of a selection that has more than the
 * waiting row's by two rows, in rows at work and in service.
 */
function victimFor(row: WaitingRow, { groups }: SchedulerState, shares: Shares): StartedRow | undefined {
  const running = groups.flat().filter(({ preemptions }) => preemptions < MAX_YIELDS);
  const lower = lastOf(running.filter(({ priority }) => priority < row.priority));
  if (lower !== undefined) return lower;
  const own = shares.rows.get(row.key) ?? 0;
  const over = (key: string) => shares.rows.get(key)! >= own + 2 && isAhead(key, row, shares);
  return lastOf(running.filter(({ key, priority }) => priority <= row.priority && over(key)));
}

/** The newest of the rows with the lowest priority. */
function lastOf<R extends { readonly priority: number; readonly arrival: number }>(rows: readonly R[]): R | undefined {
  return rows.reduce<R | undefined>((last, row) => {
    if (last === undefined || row.priority < last.priority) return row;
    return row.priority === last.priority && row.arrival > last.arrival ? row : last;
  }, undefined);
}

function startedCount({ groups, prefilling }: SchedulerState): number {
  return groups.reduce((sum, rows) => sum + rows.length, prefilling.length);
}
