/**
 * The scheduler's policy on simulated time: rows arrive, steps cost what a cost model says, and `decide` alone says what
 * happens. No engine, no clock, so a run of hours takes seconds and equal input gives equal output.
 */
import { inBlocks, placeRow } from '../server/engine/placement.js';
import { countStart, type WaitingRow } from '../server/engine/queue-order.js';
import { decide, type SchedulerLimits } from '../server/engine/scheduler.js';
import { ServiceLedger } from '../server/engine/service-ledger.js';
import { StepCosts } from '../server/engine/step-costs.js';

/** A row to come. */
export interface Arrival {
  readonly atMs: number;
  readonly key: string;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly priority?: number;
}

/** What steps cost, in milliseconds. */
export interface CostModel {
  /** A chunk of `tokens` behind `past` positions. */
  prefill(tokens: number, past: number): number;
  /** One token for each row of a group; lengths are the rows' positions. */
  decode(lengths: readonly number[]): number;
}

/** What became of an arrival; times since the start. */
export interface Outcome extends Arrival {
  readonly firstTokenMs: number;
  readonly endMs: number;
  /** Longest time between two tokens. */
  readonly longestGapMs: number;
  readonly preemptions: number;
}

/** A run. */
export interface SimulationResult {
  /** In the order of the arrivals. */
  readonly outcomes: readonly Outcome[];
  readonly steps: number;
  /** Most positions that rows needed at any step. */
  readonly mostPositions: number;
  readonly mostRows: number;
}

class SimulatedRow implements WaitingRow {
  readonly id: number;
  readonly arrived: Arrival;
  length = 0;
  generated = 0;
  overtaken = 0;
  preemptions = 0;
  firstTokenMs = Number.NaN;
  endMs = Number.NaN;
  lastTokenMs = Number.NaN;
  longestGapMs = 0;
  servedMs = 0;
  readonly deadline = Number.POSITIVE_INFINITY;
  readonly fixed = false;
  readonly joinable = false;

  constructor(id: number, arrived: Arrival) {
    this.id = id;
    this.arrived = arrived;
  }

  get arrival(): number {
    return this.id;
  }

  get key(): string {
    return this.arrived.key;
  }

  get priority(): number {
    return this.arrived.priority ?? 0;
  }

  get tokens(): number {
    return this.arrived.promptTokens + Math.max(0, this.generated - 1);
  }

  get tokensLeft(): number {
    return this.tokens - this.length;
  }

  /** Takes a token; true when it was the last one. */
  accept(nowMs: number): boolean {
    if (this.generated === 0) this.firstTokenMs = nowMs;
    else this.longestGapMs = Math.max(this.longestGapMs, nowMs - this.lastTokenMs);
    this.lastTokenMs = nowMs;
    this.generated += 1;
    this.endMs = nowMs;
    return this.generated >= this.arrived.newTokens;
  }
}

/** Runs the policy until every row has ended. Throws when it idles while rows wait, or makes no progress. */
export function simulate(arrivals: readonly Arrival[], limits: SchedulerLimits, model: CostModel): SimulationResult {
  const rows = [...arrivals].sort((a, b) => a.atMs - b.atMs).map((arrival, id) => new SimulatedRow(id, arrival));
  const byId = (id: number) => rows[id]!;
  let next = 0;
  let nowMs = 0;
  let waiting: SimulatedRow[] = [];
  let prefilling: SimulatedRow[] = [];
  let groups: SimulatedRow[][] = [];
  let readSinceDecode = 0;
  let steps = 0;
  let mostPositions = 0;
  let mostRows = 0;
  const costs = new StepCosts();
  const service = new ServiceLedger();
  const charge = (served: readonly SimulatedRow[], ms: number) => {
    service.charge(
      served.map(({ key }) => key),
      ms,
    );
    for (const row of served) row.servedMs += ms / served.length;
  };
  const leave = (row: SimulatedRow) => {
    groups = groups.map((group) => group.filter((other) => other !== row)).filter((group) => group.length > 0);
    prefilling = prefilling.filter((other) => other !== row);
  };
  /** Notes what rows hold, with room for `more` tokens of each that decodes. */
  const note = (more: number) => {
    mostRows = Math.max(mostRows, groups.flat().length + prefilling.length);
    const held = groups.reduce(
      (sum, group) => sum + group.length * inBlocks(Math.max(...group.map(({ length }) => length + more))),
      prefilling.reduce((sum, { tokens }) => sum + inBlocks(tokens), 0),
    );
    mostPositions = Math.max(mostPositions, held);
  };
  for (;;) {
    while (next < rows.length && rows[next]!.arrived.atMs <= nowMs) waiting.push(rows[next++]!);
    const decision = decide({ waiting, prefilling, groups, readSinceDecode, costs, service }, limits);
    steps += 1;
    if (steps > 1e8) throw new Error('the policy makes no progress');
    if (decision.kind === 'idle') {
      if (waiting.length > 0) throw new Error('the policy idles while rows wait');
      if (next === rows.length) break;
      nowMs = rows[next]!.arrived.atMs;
      continue;
    }
    if (decision.kind === 'preempt') {
      const row = byId(decision.id);
      leave(row);
      row.length = 0;
      row.preemptions += 1;
      waiting = [...waiting, row].sort((a, b) => a.id - b.id);
      continue;
    }
    if (decision.kind === 'decode') {
      readSinceDecode = 0;
      // The next tokens' room is taken now; a row that had to go for it has gone.
      note(1);
      const ms = groups.reduce((sum, group) => sum + model.decode(group.map(({ length }) => length)), 0);
      costs.decoded(ms);
      charge(groups.flat(), ms);
      nowMs += ms;
      for (const row of groups.flat()) {
        row.length += 1;
        if (!row.accept(nowMs)) continue;
        service.ended(row.servedMs);
        leave(row);
      }
    } else {
      if (decision.kind === 'start') {
        const row = byId(decision.ids[0]!);
        waiting = waiting.filter((other) => other !== row);
        countStart(row, waiting);
        for (const passed of prefilling) passed.overtaken += 1;
        prefilling.push(row);
      }
      const row = prefilling.at(-1)!;
      const tokens = Math.min(decision.tokens, row.tokensLeft);
      const ms = model.prefill(tokens, row.length);
      costs.prefilled(tokens, ms);
      readSinceDecode += tokens;
      charge([row], ms);
      nowMs += ms;
      row.length += tokens;
      if (row.tokensLeft === 0) {
        prefilling = prefilling.filter((other) => other !== row);
        const done = row.generated === 0 && row.accept(nowMs);
        if (!done) join(groups, row, limits);
      }
    }
    note(0);
  }
  const outcomes = rows.map(({ arrived, firstTokenMs, endMs, longestGapMs, preemptions }) => ({
    ...arrived,
    firstTokenMs: firstTokenMs - arrived.atMs,
    endMs: endMs - arrived.atMs,
    longestGapMs,
    preemptions,
  }));
  return { outcomes, steps, mostPositions, mostRows };
}

/** Puts a row where the engine's batch would. */
function join(groups: SimulatedRow[][], row: SimulatedRow, { stepPositions = 2 ** 40 }: SchedulerLimits): void {
  const lengths = groups.map((group) => group.map(({ length }) => length));
  const { group } = placeRow(lengths, row.length, stepPositions, Number.POSITIVE_INFINITY)!;
  if (group === groups.length) groups.push([row]);
  else groups[group]!.push(row);
}
