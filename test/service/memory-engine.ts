/** An engine in memory: its tokens depend on the row alone, its steps are asynchronous, its rows can be counted. */
import type { Engine, EngineRow, RowHandle, RowListener } from '../../server/engine/engine.js';
import { NO_STATS } from '../../server/engine/engine-counts.js';
import type { EndEvent, EngineStats } from '../../server/engine/messages.js';
import { AppError } from '../../server/errors.js';

interface Running {
  readonly id: number;
  readonly row: EngineRow;
  readonly listener: RowListener;
  readonly generated: number[];
  cancelled: boolean;
}

/** FNV-1a over numbers. */
function hash(...values: readonly number[]): number {
  let state = 0x811c_9dc5;
  for (const value of values) state = Math.imul(state ^ value, 0x0100_0193) >>> 0;
  return (state ^ (state >>> 13)) >>> 0;
}

/** Steps one token of every row on each turn of the event loop. */
export class MemoryEngine implements Engine {
  alive = true;
  maxRowTokens: number | undefined;
  readonly stopped: Promise<void>;
  #tellStopped: () => void = () => {};
  /** All rows ever submitted. */
  readonly submitted: EngineRow[] = [];
  /** False: no step is taken, rows wait. */
  running = true;
  /** Steps taken in all. */
  steps = 0;
  #rows: Running[] = [];
  #nextId = 1;
  #scheduled = false;
  readonly #vocabSize: number;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
    this.stopped = new Promise((resolve) => {
      this.#tellStopped = resolve;
    });
  }

  /** Rows that have not ended. */
  get rows(): number {
    return this.#rows.length;
  }

  submit(rows: readonly EngineRow[], listeners: readonly RowListener[]): readonly RowHandle[] {
    if (!this.alive) throw new AppError('ENGINE_FAILED', 'the engine has stopped');
    this.submitted.push(...rows);
    return rows.map((row, at) => {
      const running: Running = { id: this.#nextId++, row, listener: listeners[at]!, generated: [], cancelled: false };
      this.#rows.push(running);
      this.#schedule();
      return {
        cancel: () => {
          running.cancelled = true;
          this.#schedule();
        },
      };
    });
  }

  /** Ends every row with an error, as when the worker dies. */
  die(): void {
    this.alive = false;
    this.#tellStopped();
    for (const row of this.#rows.splice(0)) this.#end(row, 'error', 'the worker died');
  }

  stalled: string | undefined;
  #onStall: () => void = () => {};

  onStall(listener: () => void): void {
    this.#onStall = listener;
  }

  /** A step does not return: every row ends; undefined = it has returned. */
  stall(stalled: string | undefined): void {
    this.stalled = stalled;
    if (stalled !== undefined)
      for (const row of this.#rows.splice(0)) this.#end(row, 'error', stalled, 'ENGINE_STALLED');
    this.#onStall();
  }

  /** All rows end as those of a device that failed; the engine goes on. */
  failDevice(message: string): void {
    for (const row of this.#rows.splice(0)) this.#end(row, 'error', message, 'DEVICE_FAILED');
  }

  /** The token that follows: a function of prompt, adapters, seed and what was generated. */
  next({ row, generated }: Pick<Running, 'row' | 'generated'>): number {
    const selection = row.selection.flatMap(({ digest, weight }) => [
      ...Buffer.from(digest).values(),
      Math.round(weight * 1000),
    ]);
    const seed = row.sampling.temperature > 0 ? row.sampling.seed : 0;
    return hash(...row.promptIds, -1, ...selection, -2, seed, ...generated) % this.#vocabSize;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#step();
    });
  }

  #step(): void {
    this.steps++;
    for (const running of [...this.#rows]) {
      if (running.cancelled) {
        this.#end(running, 'cancelled');
        continue;
      }
      if (!this.running) continue;
      const { promptIds, promptLogprobs: top } = running.row;
      if (top !== undefined && running.generated.length === 0) {
        const scored = promptIds.slice(1);
        running.listener.prompt?.({
          id: running.id,
          from: 1,
          logprobs: Float64Array.from(scored, (id) => -id / 100),
          topIds: Int32Array.from(scored.flatMap((id) => new Array<number>(top).fill(id))),
          topLogprobs: Float64Array.from(scored.flatMap((id) => new Array<number>(top).fill(-id / 100))),
        });
      }
      const token = this.next(running);
      running.generated.push(token);
      const asked = running.row.sampling.logprobs;
      running.listener.token({
        id: running.id,
        token,
        ...(asked !== undefined && { logprob: -token / 100 }),
        ...(asked && { top: [{ id: token, logprob: -token / 100 }] }),
      });
      if (running.row.endIds.includes(token)) this.#end(running, 'end-id');
      else if (running.generated.length >= running.row.maxNewTokens) this.#end(running, 'length');
    }
    if (this.#rows.length > 0 && this.running) this.#schedule();
  }

  #end({ id, listener }: Running, cause: EndEvent['cause'], message?: string, reason?: EndEvent['reason']): void {
    this.#rows = this.#rows.filter((other) => other.id !== id);
    listener.end({ id, cause, message, reason, cachedTokens: 0, queueMs: 1, prefillMs: 2, decodeMs: 3 });
  }

  resume(): void {
    this.running = true;
    this.#schedule();
  }

  async load(): Promise<void> {}
  async unload(): Promise<void> {}
  async close(): Promise<void> {
    this.alive = false;
    this.#tellStopped();
    for (const row of this.#rows.splice(0)) this.#end(row, 'cancelled');
  }

  stats(): EngineStats {
    return { ...NO_STATS, runningRows: this.#rows.length };
  }
}
