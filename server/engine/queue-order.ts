/**
 * In which order waiting rows are taken: by priority, then by fairness over selections, so that a busy adapter cannot
 * crowd out the others, then by deadline and arrival. A row that
 * was overtaken often while its selection had no turn goes first, so nobody waits for ever.
 */

import type { Service } from './service-ledger.js';

/** A row in the queue: new, or preempted. */
export interface WaitingRow {
  readonly id: number;
  /** Selection of the row; rows of one key compete with each other before they compete with others. */
  readonly key: string;
  /** Higher goes first. */
  readonly priority: number;
  /** Milliseconds of the engine's clock by which the answer is wanted; Infinity = none. */
  readonly deadline: number;
  /** Ascending in the order of arrival; a preempted row keeps its own. */
  readonly arrival: number;
  /** Tokens to read before it can decode. */
  readonly tokens: number;
  /** Later rows that were started before it since the last start of an earlier row of its selection. */
  overtaken: number;
  /** How often it lost its memory to other rows. */
  readonly preemptions: number;
  /** True: the whole row may be read in one step together with other short ones of its selection. */
  readonly joinable: boolean;
}

/** A row that was overtaken this often goes first, whatever its priority and selection. */
export const MAX_OVERTAKEN = 32;

/** What fairness goes by: rows that hold memory, and service had lately. */
export interface Shares {
  readonly rows: ReadonlyMap<string, number>;
  readonly service: Service;
}

/** Counts rows by selection. */
export function rowsByKey(rows: readonly { readonly key: string }[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { key } of rows) counts.set(key, (counts.get(key) ?? 0) + 1);
  return counts;
}

/**
 * What a selection has of the engine, in milliseconds: what it had lately, and what its started rows will come to. The
 * lowest goes first.
 */
export function shareOf(key: string, { rows, service }: Shares): number {
  return service.had(key) + (rows.get(key) ?? 0) * Math.max(1, service.perRow);
}

/** Counts a start in the rows that go on waiting: those before it were overtaken, those behind it had their selection's turn. */
export function countStart(started: WaitingRow, waiting: readonly WaitingRow[]): void {
  for (const row of waiting) {
    if (row.arrival < started.arrival) row.overtaken += 1;
    else if (row.key === started.key) row.overtaken = 0;
  }
}

/** The row to take next; undefined without any. */
export function firstOf(waiting: readonly WaitingRow[], shares: Shares): WaitingRow | undefined {
  const shareByKey = new Map<string, number>();
  for (const { key } of waiting) if (!shareByKey.has(key)) shareByKey.set(key, shareOf(key, shares));
  let first: WaitingRow | undefined;
  for (const row of waiting) if (first === undefined || precedes(row, first, shareByKey)) first = row;
  return first;
}

function precedes(a: WaitingRow, b: WaitingRow, shareByKey: ReadonlyMap<string, number>): boolean {
  const overdue = (row: WaitingRow) => row.overtaken >= MAX_OVERTAKEN;
  if (overdue(a) !== overdue(b)) return overdue(a);
  if (!overdue(a)) {
    if (a.priority !== b.priority) return a.priority > b.priority;
    const [shareA, shareB] = [shareByKey.get(a.key)!, shareByKey.get(b.key)!];
    if (shareA !== shareB) return shareA < shareB;
    if (a.deadline !== b.deadline) return a.deadline < b.deadline;
  }
  return a.arrival < b.arrival;
}
