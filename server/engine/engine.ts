/**
 * The engine as the main thread sees it: submit rows, receive tokens, cancel, load and unload adapters. The worker
 * behind it is in `worker.ts`; what crosses is in `messages.ts`.
 */
import type { BoundAdapter } from '../adapters/types.js';
import type { EndEvent, EngineStats, PromptEvent, RowRequest, TokenEvent } from './messages.js';

/** What a caller fills in of a {@link RowRequest}; the engine numbers and stamps it. */
export type EngineRow = Omit<RowRequest, 'id' | 'submittedAt'>;

/** Receives what happens to a row, in order; called synchronously once per engine step with that step's events. */
export interface RowListener {
  token(event: TokenEvent): void;
  /** Log-probabilities of prompt tokens, for rows that asked for them. */
  prompt?(event: PromptEvent): void;
  /** Exactly once, last. */
  end(event: EndEvent): void;
}

/** A submitted row. */
export interface RowHandle {
  /** Frees the row within a step; its listener still gets `end` with cause 'cancelled' (unless it ended before). */
  cancel(): void;
}

/** One served model's engine. */
export interface Engine {
  /** Enqueues rows that start together; `listeners[i]` belongs to `rows[i]`. Throws QUEUE_FULL, ENGINE_FAILED, ENGINE_STALLED. */
  submit(rows: readonly EngineRow[], listeners: readonly RowListener[]): readonly RowHandle[];
  /** Hands the weights to the engine (the arrays' buffers are transferred: do not touch them afterwards). */
  load(adapter: BoundAdapter): Promise<void>;
  /** Frees an adapter's weights. The caller makes sure that no row uses it. */
  unload(digest: string): Promise<void>;
  /** The numbers of the newest step. */
  stats(): EngineStats;
  /** False after the worker died; every row then ended with cause 'error'. */
  readonly alive: boolean;
  /** Why it is not alive; absent while it is, or where it cannot be told. */
  readonly failure?: string | undefined;
  /** Resolves when {@link alive} becomes false; absent = it cannot. */
  readonly stopped?: Promise<void> | undefined;
  /** Which step does not return, while one does not: rows that were there ended with ENGINE_STALLED. Absent = it moves. */
  readonly stalled?: string | undefined;
  /** Calls back whenever {@link stalled} may have changed; absent = it never does. */
  onStall?(listener: () => void): void;
  /** Most tokens that a row may have, prompt and answer: longer ones are refused. Absent = no bound. */
  readonly maxRowTokens?: number | undefined;
  /** Where the steps run, and why there; absent before the engine is ready. */
  readonly device?: { readonly name: string; readonly why: string } | undefined;
  /** Calls back whenever {@link device} has changed; absent = it never does. */
  onMove?(listener: () => void): void;
  /** Cancels all rows and ends the worker. */
  close(): Promise<void>;
}

/** True while the engine takes rows. */
export function takesRows({ alive, stalled }: Pick<Engine, 'alive' | 'stalled'>): boolean {
  return alive && stalled === undefined;
}
