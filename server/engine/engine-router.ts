/**
 * Which engine thread a row goes to. Pure bookkeeping: nothing here knows of threads.
 *
 * Two rows decode faster together, with all arithmetic threads, than apart; from the third on they are spread. A row
 * goes where its prompt's beginning was read before, and where its adapters are, as long as that keeps the threads about
 * equally busy.
 */
import type { EngineRow } from './engine.js';

/** One engine thread. */
export interface Member {
  /** Rows that wait or run there. */
  rows: number;
  /** Digests of the adapters that it holds. */
  readonly adapters: ReadonlySet<string>;
}

/** Rows up to which one engine thread works alone. */
const TOGETHER = 2;
/** Rows that a member may have more than the least busy one and still get a row whose beginning it has read. */
const PREFIX_SLACK = 1;
/** Difference in rows from which an adapter is worth having on the less busy member, too. */
const COPY_SLACK = 2;
/** Tokens by which beginnings are told apart. */
const PREFIX_TOKENS = 32;
/** Beginnings that are remembered. */
const MOST_PREFIXES = 4096;

/** Where a row goes. */
export interface Route<M> {
  readonly member: M;
  /** A less busy member that lacks adapters which the row needs: it should get them. */
  readonly wanting?: M | undefined;
}

/** Remembers where beginnings of prompts were read. */
export class EngineRouter<M extends Member> {
  readonly #read = new Map<string, M>();

  /** Chooses among at least one member. The member may lack adapters only where none has them all. */
  route(members: readonly M[], row: EngineRow): Route<M> {
    const has = (member: M) => row.selection.every(({ digest }) => member.adapters.has(digest));
    const least = leastBusy(members);
    const able = members.filter(has);
    const member = this.#choose(able.length === 0 ? members : able, members, row);
    this.#remember(row, member);
    const wanting = has(least) || able.length === 0 || member.rows - least.rows < COPY_SLACK ? undefined : least;
    return { member, wanting };
  }

  #choose(candidates: readonly M[], members: readonly M[], row: EngineRow): M {
    const least = leastBusy(candidates);
    const reader = this.#read.get(prefixKey(row));
    if (reader !== undefined && candidates.includes(reader) && reader.rows <= least.rows + PREFIX_SLACK) return reader;
    const busy = members.filter(({ rows }) => rows > 0);
    const [only] = busy;
    if (busy.length === 1 && only!.rows < TOGETHER && candidates.includes(only!)) return only!;
    return least;
  }

  #remember(row: EngineRow, member: M): void {
    const key = prefixKey(row);
    this.#read.delete(key);
    this.#read.set(key, member);
    if (this.#read.size > MOST_PREFIXES) this.#read.delete(this.#read.keys().next().value!);
  }
}

/** The member with the fewest rows, the first of equals. */
export function leastBusy<M extends Member>(members: readonly M[]): M {
  return members.reduce((best, member) => (member.rows < best.rows ? member : best));
}

function prefixKey({ selection, promptIds }: EngineRow): string {
  const adapters = selection.map(({ digest, weight }) => `${digest}*${weight}`).join('+');
  return `${adapters}|${promptIds.slice(0, PREFIX_TOKENS).join(',')}`;
}
