/**
 * What the engine does next, as a pure function of its state: a prefill chunk of one row, a decode step of all running
 * rows, or nothing. Chunks and decodes take turns, so running streams keep their pace while prompts are read.
 */

/** A row that has not started. */
export interface WaitingRow {
  readonly id: number;
  /** Selection of the row; rows of one key compete with each other before they compete with others. */
  readonly key: string;
  /** Prompt and most new tokens together. */
  readonly totalTokens: number;
  /** How often a later row was started before this one. */
  readonly overtaken: number;
}

/** A row that holds key/value memory: being prefilled, or decoding. */
export interface StartedRow {
  readonly id: number;
  readonly key: string;
  readonly totalTokens: number;
}

/** All that a decision depends on. */
export interface SchedulerState {
  /** In the order of arrival. */
  readonly waiting: readonly WaitingRow[];
  readonly prefilling: (StartedRow & { readonly tokensLeft: number }) | undefined;
  readonly running: readonly StartedRow[];
  /** True when the step before was a prefill chunk. */
  readonly lastWasPrefill: boolean;
}

/** Bounds of the engine. */
export interface SchedulerLimits {
  /** Rows decoded together, a prefilling one included. */
  readonly maxBatch: number;
  /** Most tokens of one prefill step. */
  readonly prefillChunk: number;
  /** Most positions that all slots together may hold: slots * (longest row), see {@link positionsFor}. */
  readonly maxPositions: number;
}

/** The next step. */
export type Decision =
  | { readonly kind: 'idle' }
  | { readonly kind: 'decode' }
  | { readonly kind: 'prefill'; readonly id: number; readonly tokens: number }
  /** Take a waiting row, then prefill its first chunk. */
  | { readonly kind: 'start'; readonly id: number };

/** A row that was overtaken this often goes first, whatever its selection: nobody waits for ever. */
const MAX_OVERTAKEN = 32;

/** Decides the next step. */
export function decide(state: SchedulerState, limits: SchedulerLimits): Decision {
  const canDecode = state.running.length > 0;
  if (canDecode && state.lastWasPrefill) return { kind: 'decode' };
  if (state.prefilling !== undefined) {
    return {
      kind: 'prefill',
      id: state.prefilling.id,
      tokens: Math.min(limits.prefillChunk, state.prefilling.tokensLeft),
    };
  }
  const next = pickWaiting(state, limits);
  if (next !== undefined) return { kind: 'start', id: next.id };
  return canDecode ? { kind: 'decode' } : { kind: 'idle' };
}

/**
 * The waiting row to start: of the selection with the fewest started rows the one that came first, so that a busy
 * adapter cannot crowd out the others. Undefined while the batch or the memory is full.
 */
export function pickWaiting(state: SchedulerState, limits: SchedulerLimits): WaitingRow | undefined {
  const started = state.prefilling === undefined ? state.running : [...state.running, state.prefilling];
  if (state.waiting.length === 0 || started.length >= limits.maxBatch) return undefined;
  const [oldest] = state.waiting;
  let best: WaitingRow | undefined;
  if (oldest!.overtaken >= MAX_OVERTAKEN) best = oldest;
  else {
    const rowsOfKey = new Map<string, number>();
    for (const { key } of started) rowsOfKey.set(key, (rowsOfKey.get(key) ?? 0) + 1);
    let fewest = Number.POSITIVE_INFINITY;
    for (const row of state.waiting) {
      const rows = rowsOfKey.get(row.key) ?? 0;
      if (rows < fewest) {
        best = row;
        fewest = rows;
      }
    }
  }
  if (best === undefined) return undefined;
  // A row that does not fit now waits, and holds back those behind it, until rows have ended: it must not starve.
  const fits = started.length === 0 || positionsFor([...started, best]) <= limits.maxPositions;
  return fits ? best : undefined;
}

/**
 * Positions that a set of rows may come to hold: every slot of the batch is as long as its longest row, and the row being
 * prefilled has a store of its own.
 */
export function positionsFor(rows: readonly { readonly totalTokens: number }[]): number {
  const longest = rows.reduce((most, { totalTokens }) => Math.max(most, totalTokens), 0);
  return slotsFor(rows.length) * longest + longest;
}

/** Slots of a batch for a number of rows: a few sizes, so that rows that come and go rarely move the others. */
export function slotsFor(rows: number): number {
  for (const size of [1, 2, 4, 6, 8, 12, 16]) if (rows <= size) return size;
  return Math.ceil(rows / 8) * 8;
}
